#include "pipeline/graph/disentangled_attention.h"

#include "pipeline/error.h"

namespace onnxferry {

RelativePairs relative_pairs(GraphBuilder& g, const Value& rows, const Value& width) {
  const Value length = g.Squeeze(g.Shape(rows, 0, 1));
  const Value columns = g.Range(g.int_scalar(0), g.Mul(length, width), width);  // position · width
  return {g.Add(rows, g.Unsqueeze(columns, {1})), g.Add(rows, columns)};
}

Value pair_mask(GraphBuilder& g, const Value& mask) {
  const Value queries = g.Unsqueeze(mask, {1});           // [B, 1, S, 1]
  const Value keys = g.Transpose(queries, {0, 1, 3, 2});  // [B, 1, 1, S]
  return g.Mul(g.Sub(g.float_scalar(1.0F), g.Mul(queries, keys)), g.lowest());
}

Value disentangled_attention(GraphBuilder& g,
                             const DisentangledAttention& attention,
                             const RelativePairs* pairs,
                             const Value& mask) {
  Value scores = g.MatMul(attention.query, g.Transpose(attention.key, {0, 1, 3, 2}));
  const auto add_positions = [&](const Value& x, const Value& positions, const Value& index) {
    EXPORT_CHECK(pairs != nullptr, "relative positions need their index");
    const Value all = g.Reshape(g.MatMul(x, positions), g.ints({0, attention.num_heads, -1}));
    scores = g.Add(scores, g.Gather(all, index, 2));
  };
  if (attention.position_keys) {
    add_positions(attention.query, *attention.position_keys, pairs->by_query);
  }
  if (attention.position_queries) {
    add_positions(attention.key, *attention.position_queries, pairs->by_key);
  }
  const Value weights = g.Softmax(g.Add(scores, mask));
  const Value context = g.Transpose(g.MatMul(weights, attention.value), {0, 2, 1, 3});
  return g.Reshape(context, g.ints({0, 0, attention.num_heads * attention.head_dim}));
}

}  // namespace onnxferry
