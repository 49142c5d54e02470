#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/graph/builder.h"

namespace onnxferry {

/// 0, 1, 2, … of a sequence. `input_ids` [B, S] gives S.
struct PositionRanges {
  Value rows;     ///< [S, 1]
  Value columns;  ///< [S]
};
PositionRanges position_ranges(GraphBuilder& g, const Value& input_ids);

/// Which pairs are at most `distance` apart: [S, S] bool.
Value near_pairs(GraphBuilder& g, const PositionRanges& positions, std::int64_t distance);

/// T5's bucket of a relative position (key - query), bidirectional: half of the buckets for keys
/// behind the query, half for keys before it; exact up to a quarter of `num_buckets`, then
/// logarithmic up to `max_distance`. Source: relative_position_bucket in
/// transformers/models/mpnet/modeling_mpnet.py.
std::int64_t bidirectional_bucket(std::int64_t relative_position,
                                  std::int64_t num_buckets,
                                  std::int64_t max_distance);

/// The buckets of all pairs of a sequence: [S, S] int64, query by key. `input_ids` [B, S] gives S.
///
///   keys - queries → Add max_distance → Clip → Gather from a table of 2 · max_distance + 1 buckets
Value bidirectional_buckets(GraphBuilder& g,
                            const Value& input_ids,
                            std::int64_t num_buckets,
                            std::int64_t max_distance);

/// DeBERTa-v2's bucket of a relative position (query - key): exact up to bucket_size / 2, then
/// logarithmic up to `max_position`; not limited beyond. Source: make_log_bucket_position in
/// transformers/models/deberta_v2/modeling_deberta_v2.py.
std::int64_t log_bucket(std::int64_t relative_position,
                        std::int64_t bucket_size,
                        std::int64_t max_position);

/// The row of a table of 2 · span relative embeddings for every pair of a sequence, [S, S] int64:
/// bucket(query - key) + span, limited to the table. bucket_size 0: positions are their own bucket.
struct RelativeTable {
  std::int64_t span = 0;
  std::int64_t bucket_size = 0;
  std::int64_t max_position = 0;  ///< with buckets
};
Value relative_rows(GraphBuilder& g, const Value& input_ids, const RelativeTable& table);

}  // namespace onnxferry
