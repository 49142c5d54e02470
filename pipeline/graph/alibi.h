#pragma once

#include <span>
#include <vector>

#include "pipeline/graph/builder.h"

namespace onnxferry {

/// The slope of each head, for any number of heads: powers of 2^(-8/n) for the largest power of two
/// n, then the odd ones of 2^(-8/2n).
/// Source: build_alibi_tensor in transformers/models/bloom/modeling_bloom.py.
std::vector<float> alibi_slopes(std::int64_t num_heads);

/// Attention with linear biases: slope(head) · position(key), the same for every query since
/// softmax ignores what a row has in common. Stays float32 in half-precision models.
///
/// \param positions  [B or 1, T] int64
/// \return           [B or 1, num_heads, 1, T]
Value alibi(GraphBuilder& g, const Value& positions, std::span<const float> slopes);

}  // namespace onnxferry
