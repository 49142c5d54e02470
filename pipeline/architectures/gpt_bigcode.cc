// GPT BigCode (SantaCoder, StarCoder; Li et al. 2023): GPT-2 with one key and value head for all
// queries (multi_query).
//
// Peculiar: without multi_query c_attn's rows stand head by head. attention_softmax_in_fp32 and its
// sibling only choose a precision. The cache is the usual one, [B, 1 or n_head, T, head_dim]
// (transformers before 4.54 fused keys and values). Source:
// transformers/models/gpt_bigcode/modeling_gpt_bigcode.py.

#include "pipeline/architectures/gpt.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_gpt_bigcode(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_gpt(config,
                              {.vocab_size = 50257,
                               .n_embd = 768,
                               .n_layer = 12,
                               .n_head = 12,
                               .activation_function = "gelu_pytorch_tanh"});
  add_learned_positions(
      spec, "wpe", aliased_dimension(config, "n_positions", "max_position_embeddings", 1024));
  if (config.boolean("multi_query", true)) {
    spec.attention.num_key_value_heads = 1;
  } else {
    spec.attention.form = QkvForm::kGrouped;
  }
  spec.ort_model_reads_key_value_heads = true;
  if (!config.boolean("scale_attn_weights", true)) {
    spec.attention.scale = 1.0;
  }
  config.disregard("attention_softmax_in_fp32");
  config.disregard("scale_attention_softmax_in_fp32");
  config.disregard("num_key_value_heads");  // multi_query decides
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kGptBigcode;
const Architecture kGptBigcode{.model_type = "gpt_bigcode",
                               .tasks = kTokenDecoderTasks,
                               .ignored_tensors = kGptIgnoredTensors,
                               .build = build_gpt_bigcode};

}  // namespace onnxferry
