#pragma once

#include <optional>

#include "pipeline/graph/builder.h"
#include "pipeline/graph/relative_position.h"

namespace onnxferry {

/// For every pair of positions, where its score stands in a row-major [S, width] matrix of scores
/// against `width` relative positions. Made once per graph.
struct RelativePairs {
  Value by_query;  ///< [S, S]: query · width + the pair's relative position
  Value by_key;    ///< [S, S]: key · width + the pair's relative position
};

/// \param rows   [S, S], the relative position of each pair
/// \param width  [] int64
RelativePairs relative_pairs(GraphBuilder& g, const Value& rows, const Value& width);

/// The mask of DeBERTa: padding neither looks nor is looked at, [B, 1, S, S], additive.
/// \param mask  [B, S, 1] float, 1 for real tokens
Value pair_mask(GraphBuilder& g, const Value& mask);

/// One attention of DeBERTa. Queries and positions' queries come divided by the scale.
struct DisentangledAttention {
  std::int64_t num_heads = 0;
  std::int64_t head_dim = 0;
  Value query, key, value;                ///< [B, num_heads, S, head_dim]
  std::optional<Value> position_keys;     ///< [1, num_heads, head_dim, width]: content to position
  std::optional<Value> position_queries;  ///< the same: position to content
};

/// softmax(q·kᵀ + q·posₖᵀ at the pair + k·pos_qᵀ at the pair + mask)·v, [B, S, num_heads ·
/// head_dim]. Scores against positions are gathered from a flattened matrix, so that one index [S,
/// S] serves all layers, heads and rows of the batch. Source: DisentangledSelfAttention in
/// transformers/models/deberta{,_v2}/modeling_*.py.
Value disentangled_attention(GraphBuilder& g,
                             const DisentangledAttention& attention,
                             const RelativePairs* pairs,
                             const Value& mask);

}  // namespace onnxferry
