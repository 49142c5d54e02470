#include "pipeline/graph/mixture.h"

#include <numeric>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

/// Scores of experts outside the best groups become 0, as in transformers: not minus infinity, so
/// that one of them wins over an expert with a negative score. A tie lets both groups in; torch
/// leaves open which.
Value only_best_groups(GraphBuilder& g,
                       const Value& scores,
                       const RouterSpec& spec,
                       std::int64_t experts) {
  if (spec.chosen_groups >= spec.num_groups) {
    return scores;
  }
  const Value groups =
      g.Reshape(scores, g.ints({0, spec.num_groups, -1}));  // [N, groups, E / groups]
  const bool is_sum = spec.group_score == RouterSpec::GroupScore::kSumOfBestTwo;
  Value best = g.TopK(groups, g.ints({is_sum ? 2 : 1}), TopOrder::kLargestFirst).values;
  if (is_sum) {
    best = g.ReduceSum(best, -1, KeepDims::kYes);  // [N, groups, 1]
  }
  const Value flat = g.Reshape(best, g.ints({0, spec.num_groups}));
  const TopValues chosen = g.TopK(flat, g.ints({spec.chosen_groups}), TopOrder::kLargestFirst);
  const Value last = g.Gather(chosen.values, g.ints({spec.chosen_groups - 1}), 1);  // [N, 1]
  const Value is_out = g.Less(best, g.Unsqueeze(last, {2}));
  return g.Reshape(g.Where(is_out, g.float_scalar(0.0F), groups), g.ints({0, experts}));
}

Value score_correction(GraphBuilder& g, const MixtureSpec& spec, const std::string& key) {
  const std::string name = fmt::format("{}.{}", key, spec.router.correction_name);
  const TensorInfo* const info = g.tensors().find(name);
  const bool is_row = info != nullptr && info->shape.size() == 2;
  return g.weight(name, is_row ? Shape{1, spec.experts.count} : Shape{spec.experts.count});
}

Routing choose(GraphBuilder& g,
               const Value& logits,
               const MixtureSpec& spec,
               const std::string& key) {
  const RouterSpec& router = spec.router;
  const Value k = g.ints({spec.experts.chosen});
  if (router.scores == RouterSpec::Scores::kSoftmaxOfChosen) {
    const TopValues best = g.TopK(logits, k, TopOrder::kLargestFirst);
    return {best.indices, g.Softmax(best.values)};
  }
  const Value scores =
      router.scores == RouterSpec::Scores::kSigmoid ? g.Sigmoid(logits) : g.Softmax(logits);
  Value candidates = scores;
  if (!router.correction_name.empty()) {
    const Value correction = score_correction(g, spec, key);
    candidates = g.Add(scores, correction);
  }
  candidates = only_best_groups(g, candidates, router, spec.experts.count);
  const TopValues best = g.TopK(candidates, k, TopOrder::kLargestFirst);
  // Without a correction a chosen expert's candidate is its score.
  Value weights =
      router.correction_name.empty() ? best.values : g.GatherElements(scores, best.indices, -1);
  if (router.normalize == RouterSpec::Normalize::kBySum) {
    const Value sum = g.ReduceSum(weights, -1, KeepDims::kYes);
    weights = g.Div(weights, g.Max(sum, g.float_scalar(static_cast<float>(router.least_sum))));
  }
  return {best.indices, weights};
}

/// x [N, H]. Logits and weights stay float32: a token that goes to another expert is not a rounding
/// error.
Routing route(GraphBuilder& g, const Value& x, const MixtureSpec& spec, const std::string& key) {
  const RouterSpec& router = spec.router;
  const auto scope = g.float32_scope(router.name);
  const Value logits = linear(g,
                              x,
                              fmt::format("{}.{}", key, router.name),
                              spec.hidden_size,
                              spec.experts.count,
                              router.bias);
  Routing routing = router.choose ? router.choose(g, logits) : choose(g, logits, spec, key);
  if (router.scale != 1.0) {
    routing.weights = g.Mul(routing.weights, g.float_scalar(static_cast<float>(router.scale)));
  }
  return routing;
}

/// Tokens in the order of their experts.
struct Dispatch {
  Value experts;  ///< [N · k], ascending
  Value rows;     ///< [N · k], the token at each place
  Value counts;   ///< [E], tokens of each expert
  Value places;   ///< [N, k], where a token's copies stand
};

Dispatch sort_by_expert(GraphBuilder& g, const Value& experts, const ExpertsSpec& spec) {
  const Value flat = g.Reshape(experts, g.ints({-1}));
  const Value all = g.Shape(flat);
  const TopValues sorted = g.TopK(flat, all, TopOrder::kSmallestFirst);
  const Value places = g.TopK(sorted.indices, all, TopOrder::kSmallestFirst).indices;
  std::vector<std::int64_t> ids(static_cast<std::size_t>(spec.count));
  std::iota(ids.begin(), ids.end(), 0);
  const Value is_expert = g.Cast(g.Equal(g.int_column(ids), flat), Dtype::kInt64);  // [E, N · k]
  return {
      .experts = sorted.values,
      .rows = spec.chosen == 1 ? sorted.indices : g.Div(sorted.indices, g.int_scalar(spec.chosen)),
      .counts = g.ReduceSum(is_expert, -1, KeepDims::kNo),
      .places = g.Reshape(places, g.ints({-1, spec.chosen}))};
}

std::vector<ExpertWeights> expert_weights(GraphBuilder& g,
                                          const MixtureSpec& spec,
                                          const std::string& key) {
  const ExpertsSpec& experts = spec.experts;
  std::vector<ExpertWeights> weights;
  weights.reserve(static_cast<std::size_t>(experts.count));
  for (std::int64_t i = 0; i < experts.count; ++i) {
    if (experts.weights) {
      weights.push_back(experts.weights(g, key, i));
      continue;
    }
    const auto matrix = [&](std::string_view name, std::int64_t in, std::int64_t out) {
      return g.transposed_weight(fmt::format("{}.{}.{}.{}.weight", key, experts.name, i, name),
                                 {out, in});
    };
    const std::int64_t size = experts.intermediate_size;
    weights.push_back({matrix(experts.gate_name, spec.hidden_size, size),
                       matrix(experts.up_name, spec.hidden_size, size),
                       matrix(experts.down_name, size, spec.hidden_size)});
  }
  return weights;
}

/// Biases of experts that have tensors of their own, one below the other.
std::optional<ExpertBiases> expert_biases(GraphBuilder& g,
                                          const MixtureSpec& spec,
                                          const std::string& key) {
  const ExpertsSpec& experts = spec.experts;
  if (experts.biases) {
    return experts.biases(g, key);
  }
  if (experts.bias == Bias::kNo) {
    return std::nullopt;
  }
  const auto stack = [&](std::string_view name, std::int64_t size) {
    std::vector<Recipe> rows;
    for (std::int64_t i = 0; i < experts.count; ++i) {
      const TensorInfo& row =
          g.tensor(fmt::format("{}.{}.{}.{}.bias", key, experts.name, i, name), {size});
      rows.push_back(view(row, 0, {1, size}, {size, 1}));
    }
    return g.initializer(fmt::format("{}.{}.{}.bias", key, experts.name, name),
                         cast(concat(std::move(rows)), Dtype::kFloat32));
  };
  return ExpertBiases{.gate = stack(experts.gate_name, experts.intermediate_size),
                      .up = stack(experts.up_name, experts.intermediate_size),
                      .down = stack(experts.down_name, spec.hidden_size)};
}

/// Each part times its expert's matrix, one below the other.
Value multiply_parts(GraphBuilder& g,
                     const std::vector<Value>& parts,
                     const std::vector<ExpertWeights>& weights,
                     Value ExpertWeights::* matrix,
                     std::string_view name) {
  std::vector<Value> products;
  products.reserve(parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto scope = g.scope(fmt::format("{}/{}", i, name));
    products.push_back(g.MatMul(parts[i], weights[i].*matrix));
  }
  return products.size() == 1 ? products.front() : g.Concat(products, 0);
}

/// x [N, H] → [N · k, H], sorted by expert.
Value run_experts(GraphBuilder& g,
                  const Value& x,
                  const MixtureSpec& spec,
                  const Dispatch& dispatch,
                  const std::string& key) {
  const ExpertsSpec& experts = spec.experts;
  const std::vector<ExpertWeights> weights = expert_weights(g, spec, key);
  const auto split = [&](const Value& rows) {
    return g.Split(rows, dispatch.counts, weights.size(), 0);
  };
  const std::vector<Value> inputs = split(g.Gather(x, dispatch.rows));
  Value gate = multiply_parts(g, inputs, weights, &ExpertWeights::gate, experts.gate_name);
  Value up = multiply_parts(g, inputs, weights, &ExpertWeights::up, experts.up_name);
  const std::optional<ExpertBiases> biases = expert_biases(g, spec, key);
  if (biases) {
    gate = g.Add(gate, g.Gather(biases->gate, dispatch.experts));
    up = g.Add(up, g.Gather(biases->up, dispatch.experts));
  }
  const Value inner =
      experts.combine ? experts.combine(g, gate, up) : g.Mul(experts.activation(g, gate), up);
  const Value result =
      multiply_parts(g, split(inner), weights, &ExpertWeights::down, experts.down_name);
  return biases ? g.Add(result, g.Gather(biases->down, dispatch.experts)) : result;
}

}  // namespace

Value mixture_of_experts(GraphBuilder& g,
                         const Value& x,
                         const MixtureSpec& spec,
                         const std::string& key) {
  EXPORT_CHECK(spec.experts.chosen <= spec.experts.count, "more experts are chosen than there are");
  const Value flat = g.Reshape(x, g.ints({-1, spec.hidden_size}));
  const Routing routing = route(g, flat, spec, key);
  const Value mixed = [&] {
    const auto scope = g.scope(spec.experts.name);
    const Dispatch dispatch = sort_by_expert(g, routing.experts, spec.experts);
    const Value results = run_experts(g, flat, spec, dispatch, key);
    const Value by_token = g.Gather(results, dispatch.places);  // [N, k, H]
    return g.MatMul(g.Unsqueeze(routing.weights, {1}), by_token);
  }();
  const Value result = g.Reshape(mixed, g.Shape(x));
  return spec.shared ? g.Add(result, spec.shared(g, x, key)) : result;
}

}  // namespace onnxferry
