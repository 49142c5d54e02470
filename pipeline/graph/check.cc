// The only file of this folder that includes the onnx checker (a heavy header).

#include <fmt/format.h>
#include <onnx/checker.h>
#include <onnx/onnx_pb.h>
#include <onnx/shape_inference/implementation.h>

#include "pipeline/error.h"
#include "pipeline/graph/model.h"

namespace onnxferry {

namespace {

/// The linked onnx library may be older than the model's opset; what it does not know it cannot
/// check.
bool is_known_opset(const onnx::ModelProto& model) {
  const auto& versions = onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map();
  return model.opset_import(0).version() <= versions.at("").second;
}

}  // namespace

void check_graph(const GraphModel& model) {
  if (!is_known_opset(*model.proto)) {
    return;  // ONNX Runtime's load checks it in the verify stage
  }
  onnx::ModelProto copy = *model.proto;
  onnx::GraphProto& graph = *copy.mutable_graph();
  google::protobuf::RepeatedPtrField<onnx::TensorProto> constants;
  for (onnx::TensorProto& initializer : *graph.mutable_initializer()) {
    const Recipe& recipe = model.recipes.at(initializer.name());
    if (recipe->op == RecipeNode::Op::kLiteral) {  // shapes and axes: inference needs their values
      initializer.set_raw_data(recipe->literal);
      *constants.Add() = initializer;
      continue;
    }
    onnx::ValueInfoProto& input = *graph.add_input();
    input.set_name(initializer.name());
    auto& type = *input.mutable_type()->mutable_tensor_type();
    type.set_elem_type(initializer.data_type());
    auto& shape = *type.mutable_shape();  // present for scalars, too
    for (const std::int64_t dim : initializer.dims()) {
      shape.add_dim()->set_dim_value(dim);
    }
  }
  graph.mutable_initializer()->Swap(&constants);
  try {
    onnx::checker::check_model(copy);
    const onnx::ShapeInferenceOptions strict{
        /*check_type_val=*/true, /*strict_mode_val=*/1, /*data_prop_val=*/true};
    onnx::shape_inference::InferShapes(copy, onnx::OpSchemaRegistry::Instance(), strict);
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kInternal,
                fmt::format("the exported graph is invalid: {}", error.what()));
  }
}

}  // namespace onnxferry
