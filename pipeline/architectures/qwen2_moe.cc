// Qwen1.5-MoE and Qwen2-MoE (Qwen team 2024): Qwen2 with a mixture of experts in some or all
// layers.
//
// Peculiar: besides the chosen experts every token goes through a shared one, weighted by a gate of
// its own; decoder_sparse_step and mlp_only_layers leave layers dense; sliding windows, where
// switched on, are in every layer (eager attention does not read max_window_layers). Source:
// transformers/models/qwen2_moe/modeling_qwen2_moe.py.

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_qwen2_moe(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 151936,
                                 .hidden_size = 2048,
                                 .intermediate_size = 5632,
                                 .num_hidden_layers = 24,
                                 .num_attention_heads = 16,
                                 .num_key_value_heads = 16});
  spec.attention.qkv_bias = config.boolean("qkv_bias", true) ? Bias::kYes : Bias::kNo;
  read_common_window(config, spec);

  const ExpertCounts counts =
      read_expert_counts(config, "num_experts", "num_experts_per_tok", {60, 4});
  MixtureSpec mixture = mixture_for(spec, counts, config.dimension("moe_intermediate_size", 1408));
  mixture.router.scores = read_softmax_scores(config);
  FeedForwardSpec shared = spec.mlp;
  shared.intermediate_size = config.dimension("shared_expert_intermediate_size", 5632);
  mixture.shared = shared_expert(shared, "shared_expert", "shared_expert_gate");
  use_mixture(spec, std::move(mixture), read_sparse_step(config));
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kQwen2Moe;
const Architecture kQwen2Moe{.model_type = "qwen2_moe",
                             .tasks = kAllDecoderTasks,
                             .ignored_tensors = kDecoderIgnoredTensors,
                             .build = build_qwen2_moe};

}  // namespace onnxferry
