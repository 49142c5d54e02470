#include "pipeline/graph/model.h"

#include <onnx/onnx_pb.h>

namespace onnxferry {

GraphModel::GraphModel() : proto(std::make_unique<onnx::ModelProto>()) {}
GraphModel::GraphModel(GraphModel&&) noexcept = default;
GraphModel& GraphModel::operator=(GraphModel&&) noexcept = default;
GraphModel::~GraphModel() = default;

Dtype GraphModel::dtype(const std::string& value) const {
  if (const Recipe* const recipe = recipes.find(value)) {
    return (*recipe)->dtype;
  }
  const auto other = dtypes.find(value);
  return other == dtypes.end() ? Dtype::kFloat32 : other->second;
}

}  // namespace onnxferry
