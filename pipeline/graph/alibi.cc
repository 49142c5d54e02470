#include "pipeline/graph/alibi.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace onnxferry {

std::vector<float> alibi_slopes(std::int64_t num_heads) {
  const auto whole =
      static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(num_heads)));
  // torch: the base in float32, its powers rounded once
  const auto base = [](std::int64_t heads) {
    return static_cast<float>(std::exp2(-8.0 / static_cast<double>(heads)));
  };
  std::vector<float> slopes;
  for (std::int64_t power = 1; power <= whole; ++power) {
    slopes.push_back(static_cast<float>(std::pow(base(whole), static_cast<double>(power))));
  }
  const std::int64_t remaining = std::min(whole, num_heads - whole);
  for (std::int64_t i = 0; i < remaining; ++i) {
    const auto power = static_cast<double>(2 * i + 1);
    slopes.push_back(static_cast<float>(std::pow(base(2 * whole), power)));
  }
  return slopes;
}

Value alibi(GraphBuilder& g, const Value& positions, std::span<const float> slopes) {
  const auto scope = g.float32_scope("alibi");
  const Value keys = g.Unsqueeze(g.Cast(positions, Dtype::kFloat32), {1, 2});  // [B, 1, 1, T]
  const auto heads = static_cast<std::int64_t>(slopes.size());
  return g.Mul(keys, g.floats(slopes, {heads, 1, 1}));
}

}  // namespace onnxferry
