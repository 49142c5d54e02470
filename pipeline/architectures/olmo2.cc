// OLMo 2 (AI2 2024) and OLMo 3 (2025): Llama with the norms behind the blocks instead of before
// them, and an RMSNorm over the whole projections of queries and keys. Source:
// transformers/models/olmo2/modeling_olmo2.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

DecoderSpec read_olmo2(const ModelConfig& config) {
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
  return spec;
}

std::vector<BuiltGraph> build_olmo2(const BuildContext& context) {
  return build_decoder(context, read_olmo2(context.config));
}

std::vector<BuiltGraph> build_olmo3(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_olmo2(config);
  read_windows(
      config, spec, config.nullable_integer("sliding_window", 4096), [](std::int64_t layer) {
        return (layer + 1) % 4 != 0;
      });
  spec.ropes.push_back(unscaled_rope(config.number("rope_theta", 10000), spec.attention.head_dim));
  for (DecoderLayer& layer : spec.layers) {
    layer.rope = layer.window > 0 ? 1 : 0;
  }
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kOlmo2;
const Architecture kOlmo2{.model_type = "olmo2",
                          .tasks = kGenerationTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_olmo2};

extern const Architecture kOlmo3;
const Architecture kOlmo3{.model_type = "olmo3",
                          .tasks = kGenerationTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_olmo3};

}  // namespace onnxferry
