// Command R and R+ (Cohere 2024), and Command R7B (Cohere 2, 2024): both blocks read the same layer
// norm without bias, rotary pairs, logits times logit_scale, tied head.
//
// Peculiar: Command R+ normalizes every head's query and key with weights of its own. Cohere 2
// turns queries and keys in its sliding layers only. Source:
// transformers/models/cohere/modeling_cohere.py, transformers/models/cohere2/modeling_cohere2.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

DecoderSpec read_cohere(const ModelConfig& config) {
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 256000,
                                 .hidden_size = 8192,
                                 .intermediate_size = 22528,
                                 .num_hidden_layers = 40,
                                 .num_attention_heads = 64,
                                 .tie_word_embeddings = true});
  read_biases(config, spec);
  spec.norm = {.kind = NormKind::kLayerWithoutBias,
               .epsilon = config.number("layer_norm_eps", 1e-5)};
  spec.residual = Residual::kParallel;
  spec.names.pre_mlp_norm = "";
  spec.rotary_layout = RotaryLayout::kPairs;
  spec.logits_multiplier = config.number("logit_scale", 0.0625);
  return spec;
}

std::vector<BuiltGraph> build_cohere(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_cohere(config);
  if (config.boolean("use_qk_norm", false)) {
    spec.attention.qk_norm = QkNorm::kOwnPerHead;
    spec.attention.qk_norm_spec = spec.norm;
  }
  spec.ort_model_reads_key_value_heads = true;
  return build_decoder(context, spec);
}

std::vector<BuiltGraph> build_cohere2(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_cohere(config);
  const std::int64_t pattern = read_window_pattern(config, 4);
  read_windows(
      config, spec, config.nullable_integer("sliding_window", 4096), [&](std::int64_t layer) {
        return (layer + 1) % pattern != 0;
      });
  for (DecoderLayer& layer : spec.layers) {
    layer.rope = layer.window > 0 ? 0 : kNoRope;
  }
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kCohere;
const Architecture kCohere{.model_type = "cohere",
                           .tasks = kGenerationTasks,
                           .ignored_tensors = kDecoderIgnoredTensors,
                           .build = build_cohere};

extern const Architecture kCohere2;
const Architecture kCohere2{.model_type = "cohere2",
                            .tasks = kGenerationTasks,
                            .ignored_tensors = kDecoderIgnoredTensors,
                            .build = build_cohere2};

}  // namespace onnxferry
