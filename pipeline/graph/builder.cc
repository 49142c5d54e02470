#include "pipeline/graph/builder.h"

#include <array>
#include <bit>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <onnx/onnx_pb.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr int kIrVersion = 8;  // what ONNX Runtime 1.13 and Debian's onnx know

template <typename Element>
std::string to_bytes(std::span<const Element> values) {
  static_assert(std::endian::native == std::endian::little, "ONNX raw data is little endian");
  const auto bytes = std::as_bytes(values);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void set_attribute(onnx::NodeProto& node, const Attribute& attribute) {
  onnx::AttributeProto& proto = *node.add_attribute();
  proto.set_name(std::string(attribute.name));
  if (const auto* const integer = std::get_if<std::int64_t>(&attribute.value)) {
    proto.set_type(onnx::AttributeProto::INT);
    proto.set_i(*integer);
  } else if (const auto* const number = std::get_if<float>(&attribute.value)) {
    proto.set_type(onnx::AttributeProto::FLOAT);
    proto.set_f(*number);
  } else {
    proto.set_type(onnx::AttributeProto::INTS);
    for (const std::int64_t item : std::get<std::vector<std::int64_t>>(attribute.value)) {
      proto.add_ints(item);
    }
  }
}

void set_type(onnx::ValueInfoProto& info, const Port& port) {
  info.set_name(port.name);
  auto& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(onnx_data_type(port.dtype));
  auto& shape = *tensor.mutable_shape();
  for (const Dim& dim : port.dims) {
    if (const auto* const size = std::get_if<std::int64_t>(&dim)) {
      shape.add_dim()->set_dim_value(*size);
    } else {
      shape.add_dim()->set_dim_param(std::get<std::string>(dim));
    }
  }
}

}  // namespace

GraphBuilder::Scope::Scope(GraphBuilder& builder, std::string_view path, bool keep_float32)
    : builder_(builder),
      old_length_(builder.scope_.size()),
      old_keep_float32_(builder.keep_float32_) {
  if (!path.empty()) {
    builder.scope_.append("/").append(path);
  }
  builder.keep_float32_ = keep_float32;
}

GraphBuilder::Scope::~Scope() {
  builder_.scope_.resize(old_length_);
  builder_.keep_float32_ = old_keep_float32_;
}

GraphBuilder::GraphBuilder(const WeightFiles& tensors, int opset)
    : tensors_(tensors), opset_(opset) {
  EXPORT_CHECK(opset == 17 || opset == 18, "the graph forms are written for opset 17 and 18");
  model_.recipes.reserve(tensors.tensors().size());  // most become one
  model_.proto->set_ir_version(kIrVersion);
  model_.proto->set_producer_name("onnxferry");
  model_.proto->add_opset_import()->set_version(opset);
  model_.proto->mutable_graph()->set_name("main_graph");
}

GraphBuilder::~GraphBuilder() = default;

const TensorInfo& GraphBuilder::tensor_of_shape(std::string_view key,
                                                const onnxferry::Shape& shape) const {
  const TensorInfo* const info = tensors_.find(key);
  if (info == nullptr) {
    throw Error(
        ErrorCode::kCorruptCheckpoint,
        fmt::format(
            "the checkpoint has no tensor {}, which config.json implies; expected shape [{}]",
            key,
            fmt::join(shape, ", ")),
        std::string(key));
  }
  if (info->shape != shape) {
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("tensor {} has shape [{}], config.json implies [{}]",
                            key,
                            fmt::join(info->shape, ", "),
                            fmt::join(shape, ", ")),
                std::string(key));
  }
  return *info;
}

const TensorInfo& GraphBuilder::tensor(std::string_view key, const onnxferry::Shape& shape) const {
  const TensorInfo& info = tensor_of_shape(key, shape);
  if (!is_float(info.dtype)) {
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("tensor {} has dtype {}, expected a float type; export the original, "
                            "unquantized checkpoint",
                            key,
                            safetensors_name(info.dtype)),
                std::string(key));
  }
  return info;
}

const TensorInfo& GraphBuilder::packed_tensor(std::string_view key,
                                              const onnxferry::Shape& shape) const {
  const TensorInfo& info = tensor_of_shape(key, shape);
  if (info.dtype != Dtype::kUint8) {
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("tensor {} has dtype {}, expected U8, packed values",
                            key,
                            safetensors_name(info.dtype)),
                std::string(key));
  }
  return info;
}

Value GraphBuilder::weight(std::string_view key, const onnxferry::Shape& shape) {
  return initializer(std::string(key), cast(view(tensor(key, shape)), Dtype::kFloat32));
}

Value GraphBuilder::transposed_weight(std::string_view key, const onnxferry::Shape& shape) {
  return initializer(std::string(key) + "_t",
                     cast(transpose(view(tensor(key, shape))), Dtype::kFloat32));
}

Value GraphBuilder::initializer(std::string name, Recipe recipe) {
  const NamedRecipe& entry = model_.recipes.add(std::move(name), std::move(recipe)).first;
  return {entry.name, entry.recipe->dtype};
}

Value GraphBuilder::constant(Dtype dtype, onnxferry::Shape shape, std::string bytes) {
  const std::string key = fmt::format("{}[{}]{}", onnx_name(dtype), fmt::join(shape, ","), bytes);
  const auto known = constants_.find(key);
  if (known != constants_.end()) {
    return {known->second, dtype};
  }
  const std::string name = fmt::format("constant_{}", constants_.size());
  constants_.emplace(key, name);
  return initializer(name, literal(dtype, std::move(shape), std::move(bytes)));
}

Value GraphBuilder::ints(std::span<const std::int64_t> values) {
  return constant(Dtype::kInt64, {static_cast<std::int64_t>(values.size())}, to_bytes(values));
}

Value GraphBuilder::int_column(std::span<const std::int64_t> values) {
  return constant(Dtype::kInt64, {static_cast<std::int64_t>(values.size()), 1}, to_bytes(values));
}

Value GraphBuilder::int_scalar(std::int64_t value) {
  return constant(Dtype::kInt64, {}, to_bytes(std::span<const std::int64_t>(&value, 1)));
}

Value GraphBuilder::float_scalar(float value) {
  return constant(Dtype::kFloat32, {}, to_bytes(std::span<const float>(&value, 1)));
}

Value GraphBuilder::floats(std::span<const float> values) {
  return floats(values, {static_cast<std::int64_t>(values.size())});
}

Value GraphBuilder::floats(std::span<const float> values, onnxferry::Shape shape) {
  return constant(Dtype::kFloat32, std::move(shape), to_bytes(values));
}

Value GraphBuilder::lowest() {
  const float value = std::numeric_limits<float>::lowest();
  return initializer(std::string(kLowestName),
                     literal(Dtype::kFloat32, {}, to_bytes(std::span<const float>(&value, 1))));
}

Value GraphBuilder::input(std::string name, Dtype dtype, Dims dims) {
  model_.inputs.push_back({name, dtype, std::move(dims)});
  set_type(*model_.proto->mutable_graph()->add_input(), model_.inputs.back());
  set_dtype(name, dtype);
  return {std::move(name), dtype};
}

void GraphBuilder::output(std::string name, const Value& value, Dims dims) {
  model_.outputs.push_back({name, value.dtype, std::move(dims)});
  set_type(*model_.proto->mutable_graph()->add_output(), model_.outputs.back());
  const bool is_new = renamed_.emplace(value.name, std::move(name)).second;
  EXPORT_CHECK(is_new, "one value became two graph outputs");
}

void GraphBuilder::set_dtype(const std::string& value, Dtype dtype) {
  if (dtype != Dtype::kFloat32) {
    model_.dtypes.emplace(value, dtype);
  }
}

std::vector<Value> GraphBuilder::node_with_outputs(std::string_view op_type,
                                                   std::span<const Value* const> inputs,
                                                   Dtype dtype,
                                                   std::span<const Attribute> attributes,
                                                   std::size_t output_count) {
  std::string name;
  name.reserve(scope_.size() + op_type.size() + 8);
  name.append(scope_).append("/").append(op_type);
  onnx::NodeProto& proto = *model_.proto->mutable_graph()->add_node();
  const auto earlier = name_counts_.find(name);
  if (earlier != name_counts_.end()) {
    name += fmt::format("_{}", ++earlier->second);
  }
  proto.set_name(name);
  if (earlier == name_counts_.end()) {
    name_counts_.emplace(proto.name(), 0);
  }
  proto.set_op_type(std::string(op_type));
  for (const Value* const value : inputs) {
    proto.add_input(value->name);
  }
  for (const Attribute& attribute : attributes) {
    set_attribute(proto, attribute);
  }
  std::vector<Value> outputs;
  outputs.reserve(output_count);
  for (std::size_t i = 0; i < output_count; ++i) {
    outputs.push_back({fmt::format("{}_output_{}", name, i), dtype});
    proto.add_output(outputs.back().name);
    set_dtype(outputs.back().name, dtype);
  }
  if (keep_float32_) {
    model_.float32_nodes.insert(name);
  }
  return outputs;
}

Value GraphBuilder::node(std::string_view op_type,
                         std::initializer_list<const Value*> inputs,
                         Dtype dtype,
                         std::initializer_list<Attribute> attributes) {
  return std::move(node_with_outputs(op_type,
                                     std::span(inputs.begin(), inputs.size()),
                                     dtype,
                                     std::span(attributes.begin(), attributes.size()),
                                     1)
                       .front());
}

GraphModel GraphBuilder::finish() && {
  onnx::GraphProto& graph = *model_.proto->mutable_graph();
  const auto final_name = [&](std::string* name) {
    const auto it = renamed_.find(*name);
    if (it != renamed_.end()) {
      *name = it->second;
    }
  };
  std::unordered_set<std::string_view> read;
  read.reserve(model_.recipes.size() + static_cast<std::size_t>(graph.node_size()));
  for (onnx::NodeProto& node : *graph.mutable_node()) {
    for (std::string& name : *node.mutable_input()) {
      final_name(&name);
      read.insert(name);
    }
    for (std::string& name : *node.mutable_output()) {
      final_name(&name);
    }
  }
  for (const auto& [old_name, new_name] : renamed_) {
    EXPORT_CHECK(!model_.recipes.contains(old_name), "a graph output must come from a node");
    set_dtype(new_name, model_.dtype(old_name));
  }
  model_.recipes.keep_if([&](const NamedRecipe& entry) { return read.contains(entry.name); });
  return std::move(model_);
}

}  // namespace onnxferry
