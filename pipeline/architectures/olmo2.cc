// OLMo 2 (AI2 2024): Llama with the norms behind the blocks instead of before them, and an RMSNorm
// over the whole projections of queries and keys. Source:
// transformers/models/olmo2/modeling_olmo2.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_olmo2(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 50304,
                                 .hidden_size = 4096,
                                 .intermediate_size = 11008,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .rms_norm_eps = 1e-5});
  read_biases(config, spec);
  spec.names.pre_attention_norm = "";
  spec.names.post_attention_norm = "post_attention_layernorm";
  spec.names.pre_mlp_norm = "";
  spec.names.post_mlp_norm = "post_feedforward_layernorm";
  spec.attention.qk_norm = QkNorm::kAllHeads;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kOlmo2;
const Architecture kOlmo2{.model_type = "olmo2",
                          .tasks = kGenerationTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_olmo2};

}  // namespace onnxferry
