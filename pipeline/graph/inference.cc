#include "pipeline/graph/inference.h"

#include <google/protobuf/arena.h>
#include <onnx/defs/tensor_proto_util.h>

namespace onnxferry {
namespace {

const onnx::AttributeProto* find_attribute(const onnx::NodeProto& node, const std::string& name) {
  for (const onnx::AttributeProto& attribute : node.attribute()) {
    if (attribute.name() == name) {
      return &attribute;
    }
  }
  return nullptr;
}

template <typename Items>
auto& item(const Items& items, std::size_t index, const char* kind) {
  if (index >= items.size()) {
    fail_type_inference(kind, " ", index, " is out of bounds");
  }
  return items[index];
}

/// The elements of an integer scalar or list as dims; nothing for any other tensor.
bool read_dims(const onnx::TensorProto& tensor, onnx::TensorShapeProto& dims) {
  if (tensor.dims_size() > 1 || tensor.data_type() != onnx::TensorProto::INT64) {
    return false;
  }
  for (const std::int64_t dim : onnx::ParseData<std::int64_t>(&tensor)) {
    dims.add_dim()->set_dim_value(dim);
  }
  return true;
}

}  // namespace

const onnx::AttributeProto* NodeInference::getAttribute(const std::string& name) const {
  return find_attribute(node_, name);
}

const onnx::TypeProto* NodeInference::getInputType(std::size_t index) const {
  return item(inputs_, index, "input").type;
}

const onnx::TensorProto* NodeInference::getInputData(std::size_t index) const {
  return item(inputs_, index, "input").data;
}

const onnx::SparseTensorProto* NodeInference::getInputSparseData(std::size_t /*index*/) const {
  return nullptr;
}

const onnx::TensorShapeProto* NodeInference::getSymbolicInput(std::size_t index) const {
  const KnownValue& input = item(inputs_, index, "input");
  return input.data == nullptr ? input.partial : nullptr;
}

onnx::TypeProto* NodeInference::getOutputType(std::size_t index) {
  return item(outputs_, index, "output");
}

onnx::GraphInferencer* NodeInference::getGraphAttributeInferencer(const std::string& name) {
  fail_type_inference("attribute ", name, " holds a graph");
}

const onnx::AttributeProto* NodePropagation::getAttribute(const std::string& name) const {
  return find_attribute(node_, name);
}

const onnx::TypeProto* NodePropagation::getInputType(std::size_t index) const {
  return item(inputs_, index, "input").type;
}

const onnx::TypeProto* NodePropagation::getOutputType(std::size_t index) const {
  return item(outputs_, index, "output");
}

const onnx::TensorShapeProto* NodePropagation::getInputData(std::size_t index) {
  KnownValue& input = item(inputs_, index, "input");
  if (input.partial == nullptr && input.data != nullptr) {
    auto* const dims = google::protobuf::Arena::CreateMessage<onnx::TensorShapeProto>(&arena_);
    input.partial = read_dims(*input.data, *dims) ? dims : nullptr;
  }
  return input.partial;
}

void NodePropagation::addOutputData(std::size_t index, onnx::TensorShapeProto&& data) {
  onnx::TensorShapeProto*& place = item(std::span(data_), index, "output");
  if (place != nullptr) {
    fail_shape_inference("output ", index, " has data already");
  }
  place = google::protobuf::Arena::CreateMessage<onnx::TensorShapeProto>(&arena_);
  *place = std::move(data);
}

}  // namespace onnxferry
