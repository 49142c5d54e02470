// GLM-4.5 (Zhipu AI 2025): grouped attention with DeepSeek-V3's mixture of experts.
//
// Peculiar: half of every head is rotated, in halves (GLM-4 rotates pairs); biases on q, k and v
// only; norms on queries and keys in the large model only. Layers 46 and 92 of the published
// checkpoints predict further tokens and are left out, as in transformers. Source:
// transformers/models/glm4_moe/modeling_glm4_moe.py.

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_glm4_moe(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 151552,
                                 .hidden_size = 4096,
                                 .intermediate_size = 10944,
                                 .num_hidden_layers = 46,
                                 .num_attention_heads = 96,
                                 .num_key_value_heads = 8,
                                 .rms_norm_eps = 1e-5,
                                 .partial_rotary_factor = 0.5});
  spec.attention.qkv_bias = config.boolean("attention_bias", false) ? Bias::kYes : Bias::kNo;
  if (config.boolean("use_qk_norm", false)) {
    spec.attention.qk_norm = QkNorm::kPerHead;
  }
  use_sigmoid_mixture(config,
                      spec,
                      {.moe_intermediate_size = 1408,
                       .n_routed_experts = 128,
                       .num_experts_per_tok = 8,
                       .first_k_dense_replace = 1});
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {
    "lm_head.weight", "*.rotary_emb.inv_freq", "model.layers.46.*", "model.layers.92.*"};

}  // namespace

extern const Architecture kGlm4Moe;
const Architecture kGlm4Moe{.model_type = "glm4_moe",
                            .tasks = kGenerationTasks,
                            .ignored_tensors = kIgnoredTensors,
                            .build = build_glm4_moe};

}  // namespace onnxferry
