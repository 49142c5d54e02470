#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/weights/recipe.h"

namespace onnxferry {

/// The dims of a view with everything merged that lies behind one another in the tensor: as few
/// dims as the access pattern has. A scalar or a contiguous view has one dim of stride 1 (or none).
struct ViewLayout {
  struct Dim {
    std::int64_t size;
    std::int64_t stride;  ///< elements
  };
  std::vector<Dim> dims;

  [[nodiscard]] bool is_contiguous() const {
    return dims.empty() || (dims.size() == 1 && dims.front().stride == 1);
  }
};

ViewLayout merge_dims(const RecipeNode& view);

}  // namespace onnxferry
