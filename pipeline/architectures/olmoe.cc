// OLMoE (Muennighoff et al. 2024): OLMo with a mixture of experts in every layer.
//
// Peculiar: queries and keys are normalized over all heads at once; clip_qkv cuts them afterwards.
// Source: transformers/models/olmoe/modeling_olmoe.py.

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_olmoe(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 50304,
                                 .hidden_size = 2048,
                                 .intermediate_size = 2048,
                                 .num_hidden_layers = 16,
                                 .num_attention_heads = 16,
                                 .rms_norm_eps = 1e-5});
  spec.attention.qkv_bias = spec.attention.output_bias =
      config.boolean("attention_bias", false) ? Bias::kYes : Bias::kNo;
  spec.attention.qk_norm = QkNorm::kAllHeads;
  spec.attention.clip = config.number("clip_qkv", 0.0);

  const ExpertCounts counts =
      read_expert_counts(config, "num_experts", "num_experts_per_tok", {64, 8});
  MixtureSpec mixture = mixture_for(spec, counts, spec.mlp.intermediate_size);
  mixture.router.scores = read_softmax_scores(config);
  use_mixture(spec, std::move(mixture), [](std::int64_t) { return true; });
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kOlmoe;
const Architecture kOlmoe{.model_type = "olmoe",
                          .tasks = kGenerationTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_olmoe};

}  // namespace onnxferry
