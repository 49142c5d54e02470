#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "pipeline/weights/recipe.h"

namespace onnxferry {

/// Evaluate a recipe from its first byte to its last, in order, in pieces of bounded size.
///
/// \param sink  gets consecutive pieces of the result; each is valid only during the call
/// Memory: bounded, whatever the tensor's size (column strips of at most 64 MiB for a large
/// transpose).
/// \throws what source.read throws; overflow to infinity in a narrowing cast without clamp is not
/// an error
void evaluate(const Recipe& recipe,
              const TensorSource& source,
              const std::function<void(std::span<const std::byte>)>& sink);

}  // namespace onnxferry
