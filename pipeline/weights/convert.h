#pragma once

#include "pipeline/checkpoint/dtype.h"
#include "pipeline/weights/kernels.h"

namespace onnxferry {

/// The function that converts elements of `from` to `to`: a SIMD kernel where one exists, a plain
/// loop otherwise; nullptr if the pair is not supported.
///
/// Float targets (float16, bfloat16, float32, float64) take every source and round once, to nearest
/// even. Integer targets take integers and bool: out of range values wrap, or saturate with
/// Overflow::kClamp. Nothing converts to bool or to an 8-bit float. Equal dtypes copy.
kernels::ConvertFunction find_convert(Dtype from, Dtype to);

/// Whether `from` has values beyond the range of `to`; only then does Overflow matter.
bool has_wider_range(Dtype from, Dtype to);

}  // namespace onnxferry
