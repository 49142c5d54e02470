#include "pipeline/graph/attention.h"

#include <cmath>
#include <limits>

namespace onnxferry {

Value causal_mask(GraphBuilder& g,
                  const Value& attention_mask,
                  const Value& sequence_length,
                  const Value& total_length,
                  const CausalMaskSpec& spec) {
  constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();
  const Value keys = g.Range(g.int_scalar(0), g.Squeeze(total_length), g.int_scalar(1));  // [T]
  const Value last = g.Slice(keys, g.Neg(sequence_length), g.ints({kEnd}));               // [S]
  const Value queries = g.Unsqueeze(last, {1});                                           // [S, 1]
  Value visible = g.LessOrEqual(keys, queries);                                           // [S, T]
  if (spec.sliding_window > 0) {
    const Value oldest = g.Sub(queries, g.int_scalar(spec.sliding_window));
    visible = g.And(visible, g.Greater(keys, oldest));
  }
  const Value real = g.Unsqueeze(g.Cast(attention_mask, Dtype::kBool), {1, 2});  // [B, 1, 1, T]
  const Value hidden = g.lowest();
  // A bias is chosen, not added: lowest plus a negative bias could overflow.
  const Value allowed = spec.bias ? *spec.bias : g.float_scalar(0.0F);
  return g.Where(g.And(real, visible), allowed, hidden);
}

Value padding_mask(GraphBuilder& g, const Value& attention_mask) {
  const Value mask = g.Cast(g.Unsqueeze(g.Unsqueeze(attention_mask, {1}), {2}), Dtype::kFloat32);
  return g.Mul(g.Sub(g.float_scalar(1.0F), mask), g.lowest());
}

Value split_heads(GraphBuilder& g, const Value& x, std::int64_t heads, std::int64_t head_dim) {
  return g.Transpose(g.Reshape(x, g.ints({0, 0, heads, head_dim})), {0, 2, 1, 3});
}

namespace {

/// Softmax over the scores and one more logit, which takes its share and is dropped:
/// softmax(s) · sigmoid(logsumexp(s) - sink).
Value softmax_with_sink(GraphBuilder& g, const Value& scores, const Value& sinks) {
  const Value share = g.Sigmoid(g.Sub(g.ReduceLogSumExp(scores), sinks));
  return g.Mul(g.Softmax(scores), share);
}

}  // namespace

Value grouped_attention(GraphBuilder& g,
                        const Value& query,
                        const Value& key,
                        const Value& value,
                        const Value& mask,
                        const AttentionSpec& spec) {
  const bool is_grouped = spec.num_heads != spec.num_key_value_heads;
  // In a Reshape 0 copies the dimension, so no shape is computed at run time.
  const auto fold = [&](const Value& x, std::int64_t last) {
    return is_grouped ? g.Reshape(x, g.ints({0, spec.num_key_value_heads, -1, last})) : x;
  };
  const auto unfold = [&](const Value& x, std::int64_t last) {
    return is_grouped ? g.Reshape(x, g.ints({0, spec.num_heads, -1, last})) : x;
  };
  const Value scaled =
      g.Mul(fold(query, spec.head_dim), g.float_scalar(static_cast<float>(spec.scale)));
  Value scores = unfold(g.MatMul(scaled, g.Transpose(key, {0, 1, 3, 2})), 0);
  if (spec.softcap > 0) {
    const Value cap = g.float_scalar(static_cast<float>(spec.softcap));
    scores = g.Mul(g.Tanh(g.Div(scores, cap)), cap);
  }
  const Value masked = g.Add(scores, mask);
  const Value weights = spec.sinks ? softmax_with_sink(g, masked, *spec.sinks) : g.Softmax(masked);
  const std::int64_t value_dim = spec.value_head_dim > 0 ? spec.value_head_dim : spec.head_dim;
  const Value context = unfold(g.MatMul(fold(weights, 0), value), value_dim);
  return g.Reshape(g.Transpose(context, {0, 2, 1, 3}), g.ints({0, 0, spec.num_heads * value_dim}));
}

Value encoder_attention(GraphBuilder& g,
                        const Value& query,
                        const Value& key,
                        const Value& value,
                        const Value& mask,
                        const AttentionSpec& spec) {
  const Value shape = g.ints({0, 0, spec.num_heads, spec.head_dim});
  const Value divisor =
      g.float_scalar(static_cast<float>(std::sqrt(static_cast<double>(spec.head_dim))));
  Value q = g.Transpose(g.Reshape(query, shape), {0, 2, 1, 3});
  const Value k = g.Transpose(g.Reshape(key, shape), {0, 2, 3, 1});
  const Value v = g.Transpose(g.Reshape(value, shape), {0, 2, 1, 3});
  if (spec.scale_on == ScaleOn::kQuery) {
    q = g.Div(q, divisor);
  }
  Value scores = g.MatMul(q, k);
  if (spec.scale_on == ScaleOn::kScores) {
    scores = g.Div(scores, divisor);
  }
  const Value weights = g.Softmax(g.Add(scores, mask));
  const Value context = g.Transpose(g.MatMul(weights, v), {0, 2, 1, 3});
  return g.Reshape(context, g.ints({0, 0, spec.num_heads * spec.head_dim}));
}

}  // namespace onnxferry
