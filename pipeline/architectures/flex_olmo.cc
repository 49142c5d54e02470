// FlexOlmo (AI2 2025): OLMo 2 with a mixture of experts in every layer.
//
// Peculiar: norms stand behind the blocks; queries and keys are normalized over all heads at once.
// Source: transformers/models/flex_olmo/modeling_flex_olmo.py.

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_flex_olmo(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 100352,
                                 .hidden_size = 4096,
                                 .intermediate_size = 11008,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .rope_theta = 500000.0});
  spec.attention.qkv_bias = spec.attention.output_bias =
      config.boolean("attention_bias", false) ? Bias::kYes : Bias::kNo;
  spec.names.pre_attention_norm = "";
  spec.names.post_attention_norm = "post_attention_layernorm";
  spec.names.pre_mlp_norm = "";
  spec.names.post_mlp_norm = "post_feedforward_layernorm";
  spec.attention.qk_norm = QkNorm::kAllHeads;

  const ExpertCounts counts =
      read_expert_counts(config, "num_experts", "num_experts_per_tok", {7, 5});
  MixtureSpec mixture = mixture_for(spec, counts, spec.mlp.intermediate_size);
  mixture.router.scores = read_softmax_scores(config);
  use_mixture(spec, std::move(mixture), [](std::int64_t) { return true; });
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kFlexOlmo;
const Architecture kFlexOlmo{.model_type = "flex_olmo",
                             .tasks = kGenerationTasks,
                             .ignored_tensors = kDecoderIgnoredTensors,
                             .build = build_flex_olmo};

}  // namespace onnxferry
