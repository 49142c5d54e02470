// SmolLM3 (Hugging Face 2025): Llama whose every fourth layer has no rotary positions (NoPE).
//
// Peculiar: no_rope_layers holds 1 for layers WITH rope. Source:
// transformers/models/smollm3/modeling_smollm3.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

/// 1 for layers that turn queries and keys.
std::vector<double> rope_layers(const ModelConfig& config, std::size_t count) {
  const std::int64_t interval = config.dimension("no_rope_layer_interval", 4);
  if (auto given = config.find_numbers("no_rope_layers")) {
    if (given->size() != count) {
      config.refuse("no_rope_layers", "expected one entry per layer");
    }
    return *given;
  }
  std::vector<double> layers(count, 1);
  for (std::size_t i = 0; i < count; ++i) {
    layers[i] = (static_cast<std::int64_t>(i) + 1) % interval != 0 ? 1 : 0;
  }
  return layers;
}

std::vector<BuiltGraph> build_smollm3(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 128256,
                                 .hidden_size = 2048,
                                 .intermediate_size = 11008,
                                 .num_hidden_layers = 36,
                                 .num_attention_heads = 16,
                                 .num_key_value_heads = 4,
                                 .rope_theta = 2e6,
                                 .tie_word_embeddings = true,
                                 .pad_token_id = 128004});
  read_biases(config, spec);
  const auto has_rope = rope_layers(config, spec.layers.size());
  for (std::size_t i = 0; i < has_rope.size(); ++i) {
    spec.layers[i].rope = has_rope[i] != 0 ? 0 : kNoRope;
  }
  const auto window = config.find_integer("sliding_window");
  const bool slides = config.boolean("use_sliding_window", false);
  read_windows(config, spec, slides ? window : std::nullopt, [&](std::int64_t layer) {
    return slides && window && has_rope[static_cast<std::size_t>(layer)] == 0;
  });
  spec.ort_model_reads_key_value_heads = true;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kSmolLm3;
const Architecture kSmolLm3{.model_type = "smollm3",
                            .tasks = kAllDecoderTasks,
                            .ignored_tensors = kDecoderIgnoredTensors,
                            .build = build_smollm3};

}  // namespace onnxferry
