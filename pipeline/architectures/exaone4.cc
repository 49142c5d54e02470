// EXAONE 4.0 (LG AI Research 2025): Llama with the norms behind the blocks, an RMSNorm on every
// head's query and key, and in the 32B model three sliding layers for each full one.
//
// Peculiar: where there is a window at all, full layers have no rotary positions. Source:
// transformers/models/exaone4/modeling_exaone4.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_exaone4(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 102400,
                                 .hidden_size = 4096,
                                 .intermediate_size = 16384,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 32,
                                 .rms_norm_eps = 1e-5});
  spec.names.pre_attention_norm = "";
  spec.names.post_attention_norm = "post_attention_layernorm";
  spec.names.pre_mlp_norm = "";
  spec.names.post_mlp_norm = "post_feedforward_layernorm";
  spec.attention.qk_norm = QkNorm::kPerHead;
  const auto window = config.nullable_integer("sliding_window", 4096);
  const std::int64_t pattern = read_window_pattern(config, 4);
  read_windows(config, spec, window, [&](std::int64_t layer) {
    return window && (layer + 1) % pattern != 0;
  });
  for (DecoderLayer& layer : spec.layers) {
    layer.rope = window && layer.window == 0 ? kNoRope : 0;
  }
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kExaone4;
const Architecture kExaone4{.model_type = "exaone4",
                            .tasks = kAllDecoderTasks,
                            .ignored_tensors = kDecoderIgnoredTensors,
                            .build = build_exaone4};

}  // namespace onnxferry
