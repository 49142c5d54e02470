#include "pipeline/graph/model.h"

#include <onnx/onnx_pb.h>

namespace onnxferry {

GraphModel::GraphModel() : proto(std::make_unique<onnx::ModelProto>()) {}
GraphModel::GraphModel(GraphModel&&) noexcept = default;
GraphModel& GraphModel::operator=(GraphModel&&) noexcept = default;
GraphModel::~GraphModel() = default;

}  // namespace onnxferry
