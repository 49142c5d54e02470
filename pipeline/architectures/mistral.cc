// Mistral 7B (Jiang et al. 2023): Llama with a sliding window in all layers, unless sliding_window
// is null (v0.2 on). head_dim differs from hidden_size / heads in Mistral-Nemo. Source:
// transformers/models/mistral/modeling_mistral.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_mistral(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32000,
                                 .hidden_size = 4096,
                                 .intermediate_size = 14336,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 8});
  const auto window = config.nullable_integer("sliding_window", 4096);
  read_windows(config, spec, window, [&](std::int64_t) { return window.has_value(); });
  spec.ort_model_reads_key_value_heads = true;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kMistral;
const Architecture kMistral{.model_type = "mistral",
                            .tasks = kAllDecoderTasks,
                            .ignored_tensors = kDecoderIgnoredTensors,
                            .build = build_mistral};

}  // namespace onnxferry
