#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "pipeline/checkpoint/dtype.h"

namespace onnxferry {

/// A dimension as ONNX declares it: a number, or a symbolic name such as "batch_size".
using Dim = std::variant<std::int64_t, std::string>;
using Dims = std::vector<Dim>;

/// A named value of a graph: an input, an initializer or the output of a node. Cheap handle; made
/// by GraphBuilder only.
struct Value {
  std::string name;
  Dtype dtype = Dtype::kFloat32;
};

/// A graph input or output with its declared dims.
struct Port {
  std::string name;
  Dtype dtype = Dtype::kFloat32;
  Dims dims;
};

}  // namespace onnxferry
