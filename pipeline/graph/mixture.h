#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "pipeline/graph/feed_forward.h"

namespace onnxferry {

/// Which experts each token goes to, best first, and with what weight.
struct Routing {
  Value experts;  ///< [tokens, k] int64
  Value weights;  ///< [tokens, k]
};

/// How a token's experts are chosen from its logits.
struct RouterSpec {
  /// What the logits become before the k best are taken.
  enum class Scores : std::uint8_t {
    kSoftmax,          ///< shares of all experts (Qwen2-MoE)
    kSoftmaxOfChosen,  ///< shares among the k best alone, the same as kSoftmax made to sum to 1
    kSigmoid           ///< (DeepSeek-V3)
  };
  /// What of the chosen experts' scores is divided by their sum.
  enum class Normalize : std::uint8_t { kNo, kBySum };
  /// What a group of experts is judged by; only the best groups' experts can be chosen.
  enum class GroupScore : std::uint8_t { kBest, kSumOfBestTwo };

  std::string_view name = "gate";
  Bias bias = Bias::kNo;
  Scores scores = Scores::kSoftmax;
  Normalize normalize = Normalize::kNo;
  double least_sum = 0.0;  ///< kBySum: a smaller sum counts as this
  double scale = 1.0;      ///< of the weights, after everything
  /// Tensor [E] or [1, E] below the mlp module, added to the scores for the choice alone; may be
  /// empty.
  std::string_view correction_name;
  std::int64_t num_groups = 1;
  std::int64_t chosen_groups = 1;
  GroupScore group_score = GroupScore::kBest;
  /// In place of all of the above but name and bias.
  std::function<Routing(GraphBuilder&, const Value& logits)> choose;
};

/// One expert's matrices, transposed for MatMul: gate and up [H, F], down [F, H].
struct ExpertWeights {
  Value gate, up, down;
};

/// Biases of all experts in one tensor each: gate and up [E, F], down [E, H].
struct ExpertBiases {
  Value gate, up, down;
};

/// The experts of a layer: down(act(gate(x)) · up(x)), each with matrices of its own.
struct ExpertsSpec {
  std::int64_t count = 0;
  std::int64_t chosen = 0;  ///< per token
  std::int64_t intermediate_size = 0;
  Activation activation = nullptr;
  std::string_view name = "experts";
  std::string_view gate_name = "gate_proj";  ///< below "<name>.N"
  std::string_view up_name = "up_proj";
  std::string_view down_name = "down_proj";
  Bias bias = Bias::kNo;

  /// Where the matrices are not three tensors an expert; `key` is the mlp module's.
  std::function<ExpertWeights(GraphBuilder&, const std::string& key, std::int64_t expert)> weights;
  std::function<ExpertBiases(GraphBuilder&, const std::string& key)> biases;
  /// In place of act(gate) · up.
  std::function<Value(GraphBuilder&, const Value& gate, const Value& up)> combine;
};

/// A mixture of experts in place of a feed-forward block.
struct MixtureSpec {
  std::int64_t hidden_size = 0;
  RouterSpec router;
  ExpertsSpec experts;
  /// Added to the experts' result: what every token goes through. x is [B, S, H].
  std::function<Value(GraphBuilder&, const Value& x, const std::string& key)> shared;
};

/// x [B, S, H] → [B, S, H]. `key` is the module's, "model.layers.0.mlp". Opens no scope for it.
///
/// Every token is copied once per chosen expert, the copies sorted by expert and split at run time,
/// so that an expert is three MatMul over its own tokens (over none where nobody chose it):
///
///   experts [N, k] → sort → order ─ Gather x ─ Split ─┬ MatMul gate_0, up_0 ┬ Concat ─ act · up
///                      └ counts ──────┘               └ MatMul gate_E, up_E ┘
///   ─ Split ─┬ MatMul down_0 ┬ Concat ─ Gather (unsort) [N, k, H] ─ weights [N, 1, k] · → [N, 1,
///   H]
///            └ MatMul down_E ┘
Value mixture_of_experts(GraphBuilder& g,
                         const Value& x,
                         const MixtureSpec& spec,
                         const std::string& key);

}  // namespace onnxferry
