// Gemma 3, text (Google 2025): Gemma 2 without softcaps by default, with a norm on every head's
// query and key, five sliding layers for each full one, and a rope for each of the two kinds.
//
// Peculiar: rope_scaling holds for the full layers only; sliding ones turn with
// rope_local_base_freq. Source: transformers/models/gemma3/modeling_gemma3.py.

#include "pipeline/architectures/gemma.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_gemma3_text(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_gemma(config,
                                {.vocab_size = 262208,
                                 .hidden_size = 2304,
                                 .intermediate_size = 9216,
                                 .num_hidden_layers = 26,
                                 .num_attention_heads = 8,
                                 .num_key_value_heads = 4,
                                 .head_dim = 256,
                                 .rope_theta = 1e6,
                                 .tie_word_embeddings = true});
  if (config.boolean("use_bidirectional_attention", false)) {
    config.refuse("use_bidirectional_attention", "the encoder form of Gemma 3 is not implemented");
  }
  spec.mlp.activation = read_activation(config, "hidden_activation", "gelu_pytorch_tanh");
  read_gemma2_layers(config,
                     spec,
                     config.find_number("attn_logit_softcapping"),
                     config.find_number("final_logit_softcapping"));
  spec.attention.qk_norm = QkNorm::kPerHead;
  const std::int64_t pattern = config.dimension("sliding_window_pattern", 6);
  read_windows(
      config, spec, config.nullable_integer("sliding_window", 4096), [&](std::int64_t layer) {
        return (layer + 1) % pattern != 0;
      });
  spec.ropes.push_back(
      unscaled_rope(config.number("rope_local_base_freq", 10000), spec.attention.head_dim));
  for (DecoderLayer& layer : spec.layers) {
    layer.rope = layer.window > 0 ? 1 : 0;
  }
  spec.ort_model_reads_key_value_heads = true;
  spec.ort_model_reads_head_dim = true;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kGemma3Text;
const Architecture kGemma3Text{.model_type = "gemma3_text",
                               .tasks = kDecoderTasks,
                               .ignored_tensors = kDecoderIgnoredTensors,
                               .build = build_gemma3_text};

}  // namespace onnxferry
