#pragma once

#include <functional>

#include "pipeline/architectures/decoder.h"
#include "pipeline/graph/mixture.h"

namespace onnxferry {

/// `chosen` of `count` experts per token.
struct ExpertCounts {
  std::int64_t count = 0;
  std::int64_t chosen = 0;
};
/// Read both keys; a default of 0: the key must be there.
/// \throws Error{kUnsupportedModel} if more experts are chosen than there are
ExpertCounts read_expert_counts(const ModelConfig& config,
                                std::string_view count_key,
                                std::string_view chosen_key,
                                const ExpertCounts& defaults);

/// A mixture of gated experts with the hidden size, activation and biases of `spec.mlp`.
MixtureSpec mixture_for(const DecoderSpec& spec,
                        const ExpertCounts& counts,
                        std::int64_t intermediate_size);

using IsSparse = std::function<bool(std::int64_t layer)>;

/// Put the mixture into the layers that `is_sparse` chooses; the others keep `spec.mlp`.
void use_mixture(DecoderSpec& spec, MixtureSpec mixture, IsSparse is_sparse);

/// Every decoder_sparse_step-th layer that is not in mlp_only_layers (Qwen2-MoE, Qwen3-MoE).
IsSparse read_sparse_step(const ModelConfig& config);

/// norm_topk_prob, absent: no: whether the chosen experts' shares sum to 1.
RouterSpec::Scores read_softmax_scores(const ModelConfig& config);

/// sliding_window in every layer if use_sliding_window says so (Qwen2-MoE, Qwen3-MoE).
void read_common_window(const ModelConfig& config, DecoderSpec& spec);

/// A feed-forward block `<mlp>.<name>` that every token goes through, for MixtureSpec::shared.
/// With a gate its result is multiplied by sigmoid of `<mlp>.<gate_name>`, a projection to one
/// number.
std::function<Value(GraphBuilder&, const Value&, const std::string&)> shared_expert(
    FeedForwardSpec mlp, std::string_view name, std::string_view gate_name = "");

/// Defaults of a transformers config class for the keys of DeepSeek-V3 and its descendants; 0: the
/// key must be there.
struct SigmoidMixtureDefaults {
  std::int64_t moe_intermediate_size, n_routed_experts, num_experts_per_tok;
  std::int64_t n_shared_experts = 1;
  std::int64_t n_group = 1;
  std::int64_t topk_group = 1;
  std::int64_t first_k_dense_replace = 0;
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1.0;
};

/// Give `spec` the mixture of DeepSeek-V3, GLM-4.5 and dots.llm1: sigmoid scores, chosen with a
/// correction and within the best groups; shared experts; the first layers dense.
/// \throws Error{kUnsupportedModel}
void use_sigmoid_mixture(const ModelConfig& config,
                         DecoderSpec& spec,
                         const SigmoidMixtureDefaults& defaults);

/// Refuse `key` unless it is absent or has the one value that transformers' code stands for without
/// reading it.
void expect_text(const ModelConfig& config, std::string_view key, std::string_view value);

}  // namespace onnxferry
