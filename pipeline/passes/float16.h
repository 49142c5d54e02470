#pragma once

#include "pipeline/graph/model.h"

namespace onnxferry {

/// Make a float32 model a half-precision one.
///
///   x (float32 input) → Cast 16 → … → y ← Cast 32 ← …        graph inputs and outputs stay float32
///                                                       (no Cast where a float32 node makes y)
///
/// Every float initializer becomes FLOAT16; values beyond ±65504 become the largest finite value.
/// Nodes in `float32_nodes` (norm statistics, rotary angles) keep computing in float32 between
/// Casts, and their float constants become Constant nodes, so that no float32 initializer is left.
/// `lowest` becomes -32752: -65504 plus a score is -inf, and a fully masked row would be NaN.
/// \throws Error{kInternal} if the model has no consistent types
void convert_to_float16(GraphModel& model);

}  // namespace onnxferry
