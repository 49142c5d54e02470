#include "pipeline/graph/relative_position.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace onnxferry {
namespace {

// table[limit(x + offset)], where the table has 2 · offset + 1 entries
Value look_up(GraphBuilder& g,
              const Value& x,
              std::int64_t offset,
              const std::vector<std::int64_t>& table) {
  const Value index =
      g.Clip(g.Add(x, g.int_scalar(offset)), g.int_scalar(0), g.int_scalar(2 * offset));
  return g.Gather(g.ints(table), index);
}

}  // namespace

PositionRanges position_ranges(GraphBuilder& g, const Value& input_ids) {
  const Value length = g.Squeeze(g.Shape(input_ids, 1, 2));
  const Value columns = g.Range(g.int_scalar(0), length, g.int_scalar(1));
  return {g.Unsqueeze(columns, {1}), columns};
}

Value near_pairs(GraphBuilder& g, const PositionRanges& positions, std::int64_t distance) {
  const Value apart = g.Abs(g.Sub(positions.rows, positions.columns));
  return g.LessOrEqual(apart, g.int_scalar(distance));
}

std::int64_t bidirectional_bucket(std::int64_t relative_position,
                                  std::int64_t num_buckets,
                                  std::int64_t max_distance) {
  const std::int64_t half = num_buckets / 2;
  const std::int64_t exact = half / 2;
  const std::int64_t offset = relative_position > 0 ? half : 0;
  const std::int64_t distance = std::abs(relative_position);
  if (distance < exact) {
    return offset + distance;
  }
  // In float32 with the factors rounded one by one, as torch computes it.
  const float ratio = static_cast<float>(distance) / static_cast<float>(exact);
  const auto range =
      static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact)));
  const float steps = std::log(ratio) / range * static_cast<float>(half - exact);
  return offset + std::min(exact + static_cast<std::int64_t>(steps), half - 1);
}

Value bidirectional_buckets(GraphBuilder& g,
                            const Value& input_ids,
                            std::int64_t num_buckets,
                            std::int64_t max_distance) {
  std::vector<std::int64_t> table;
  for (std::int64_t position = -max_distance; position <= max_distance; ++position) {
    table.push_back(bidirectional_bucket(position, num_buckets, max_distance));
  }
  const auto [rows, columns] = position_ranges(g, input_ids);
  return look_up(g, g.Sub(columns, rows), max_distance, table);
}

std::int64_t log_bucket(std::int64_t relative_position,
                        std::int64_t bucket_size,
                        std::int64_t max_position) {
  const std::int64_t middle = bucket_size / 2;
  const std::int64_t distance = std::abs(relative_position);
  if (distance <= middle) {
    return relative_position;
  }
  // In float32 with the factors rounded one by one, as torch computes it.
  const auto half = static_cast<float>(middle);
  const auto limit =
      static_cast<float>(static_cast<double>(max_position - 1) / static_cast<double>(middle));
  const float steps = std::log(static_cast<float>(distance) / half) / std::log(limit) *
                      static_cast<float>(middle - 1);
  const auto bucket = static_cast<std::int64_t>(std::ceil(steps)) + middle;
  return relative_position < 0 ? -bucket : bucket;
}

Value relative_rows(GraphBuilder& g, const Value& input_ids, const RelativeTable& table) {
  const auto [rows, columns] = position_ranges(g, input_ids);
  const Value relative = g.Sub(rows, columns);
  const std::int64_t last = 2 * table.span - 1;
  if (table.bucket_size == 0) {
    const Value shifted = g.Add(relative, g.int_scalar(table.span));
    return g.Clip(shifted, g.int_scalar(0), g.int_scalar(last));
  }
  const auto row_of = [&](std::int64_t position) {
    const std::int64_t bucket = log_bucket(position, table.bucket_size, table.max_position);
    return std::clamp(bucket + table.span, std::int64_t{0}, last);
  };
  // From here on every pair falls into the first or last row.
  std::int64_t reach = 1;
  while (row_of(reach) < last || row_of(-reach) > 0) {
    ++reach;
  }
  std::vector<std::int64_t> entries;
  for (std::int64_t position = -reach; position <= reach; ++position) {
    entries.push_back(row_of(position));
  }
  return look_up(g, relative, reach, entries);
}

}  // namespace onnxferry
