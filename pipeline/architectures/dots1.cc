// dots.llm1 (rednote-hilab 2025): Qwen3's attention with DeepSeek-V3's mixture of experts.
//
// Peculiar: sliding windows as layer_types says, or from max_window_layers on. Source:
// transformers/models/dots1/modeling_dots1.py.

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_dots1(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 152064,
                                 .hidden_size = 4608,
                                 .intermediate_size = 10944,
                                 .num_hidden_layers = 62,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 32});
  spec.attention.qk_norm = QkNorm::kPerHead;
  spec.attention.qkv_bias = spec.attention.output_bias =
      config.boolean("attention_bias", false) ? Bias::kYes : Bias::kNo;
  const auto window = config.nullable_integer("sliding_window", 4096);
  const std::int64_t first = config.integer("max_window_layers", 62);
  read_windows(config, spec, window, [&](std::int64_t layer) { return window && layer >= first; });
  use_sigmoid_mixture(config,
                      spec,
                      {.moe_intermediate_size = 1408,
                       .n_routed_experts = 0,
                       .num_experts_per_tok = 0,
                       .n_shared_experts = 0,
                       .norm_topk_prob = false});
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kDots1;
const Architecture kDots1{.model_type = "dots1",
                          .tasks = kGenerationTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_dots1};

}  // namespace onnxferry
