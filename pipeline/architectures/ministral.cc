// Ministral (Mistral AI 2024): Mistral whose layers look at everything or through the sliding
// window, as layer_types says; without it the window is everywhere. Source:
// transformers/models/ministral/modeling_ministral.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_ministral(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32000,
                                 .hidden_size = 4096,
                                 .intermediate_size = 14336,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 8});
  if (!config.has("head_dim")) {
    config.refuse("head_dim", "transformers' class computes with it and has no default");
  }
  const auto window = config.nullable_integer("sliding_window", 4096);
  read_windows(config, spec, window, [&](std::int64_t) { return window.has_value(); });
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kMinistral;
const Architecture kMinistral{.model_type = "ministral",
                              .tasks = kAllDecoderTasks,
                              .ignored_tensors = kDecoderIgnoredTensors,
                              .build = build_ministral};

}  // namespace onnxferry
