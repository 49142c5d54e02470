// The operator methods of GraphBuilder: one ONNX node each.

#include "pipeline/error.h"
#include "pipeline/graph/builder.h"

namespace onnxferry {

Value GraphBuilder::Abs(const Value& x) {
  return node("Abs", {&x}, x.dtype);
}
Value GraphBuilder::Add(const Value& a, const Value& b) {
  return node("Add", {&a, &b}, a.dtype);
}
Value GraphBuilder::And(const Value& a, const Value& b) {
  return node("And", {&a, &b}, Dtype::kBool);
}
Value GraphBuilder::ArgMax(const Value& x, std::int64_t axis) {
  return node("ArgMax", {&x}, Dtype::kInt64, {{"axis", axis}, {"keepdims", std::int64_t{1}}});
}
Value GraphBuilder::Cast(const Value& x, Dtype to) {
  return node("Cast", {&x}, to, {{"to", std::int64_t{onnx_data_type(to)}}});
}
Value GraphBuilder::Clip(const Value& x, const Value& min, const Value& max) {
  return node("Clip", {&x, &min, &max}, x.dtype);
}
Value GraphBuilder::Concat(std::span<const Value> parts, std::int64_t axis) {
  std::vector<const Value*> inputs;
  inputs.reserve(parts.size());
  for (const Value& part : parts) {
    inputs.push_back(&part);
  }
  const Attribute attribute{"axis", axis};
  return node_with_outputs("Concat", inputs, parts.front().dtype, std::span(&attribute, 1), 1)
      .front();
}
Value GraphBuilder::Conv(const Value& x,
                         const Value& weight,
                         const Value* bias,
                         const ConvAttributes& attributes) {
  std::vector<std::int64_t> kernel(1 + attributes.trailing_axes, 1);
  std::vector<std::int64_t> pads(2 * kernel.size(), 0);  // all starts, then all ends
  kernel.front() = attributes.kernel;
  pads[0] = pads[kernel.size()] = attributes.padding;
  const std::vector<Attribute> list = {
      {"group", attributes.groups}, {"kernel_shape", std::move(kernel)}, {"pads", std::move(pads)}};
  std::vector<const Value*> inputs = {&x, &weight};
  if (bias != nullptr) {
    inputs.push_back(bias);
  }
  return node_with_outputs("Conv", inputs, x.dtype, list, 1).front();
}
Value GraphBuilder::Cos(const Value& x) {
  return node("Cos", {&x}, x.dtype);
}
Value GraphBuilder::CumSum(const Value& x, std::int64_t axis) {
  const Value axis_value = int_scalar(axis);
  return node("CumSum", {&x, &axis_value}, x.dtype);
}
Value GraphBuilder::Div(const Value& a, const Value& b) {
  return node("Div", {&a, &b}, a.dtype);
}
Value GraphBuilder::Equal(const Value& a, const Value& b) {
  return node("Equal", {&a, &b}, Dtype::kBool);
}
Value GraphBuilder::Erf(const Value& x) {
  return node("Erf", {&x}, x.dtype);
}
Value GraphBuilder::Exp(const Value& x) {
  return node("Exp", {&x}, x.dtype);
}
Value GraphBuilder::Expand(const Value& x, const Value& shape) {
  return node("Expand", {&x, &shape}, x.dtype);
}
Value GraphBuilder::Gather(const Value& data, const Value& indices, std::int64_t axis) {
  return axis == 0 ? node("Gather", {&data, &indices}, data.dtype)
                   : node("Gather", {&data, &indices}, data.dtype, {{"axis", axis}});
}
Value GraphBuilder::GatherElements(const Value& data, const Value& indices, std::int64_t axis) {
  return node("GatherElements", {&data, &indices}, data.dtype, {{"axis", axis}});
}
Value GraphBuilder::GatherND(const Value& data, const Value& indices, std::int64_t batch_dims) {
  return node("GatherND", {&data, &indices}, data.dtype, {{"batch_dims", batch_dims}});
}
Value GraphBuilder::GemmTransB(const Value& a, const Value& b, const Value* c) {
  if (c == nullptr) {
    // beta 0 keeps onnxruntime's quantize_dynamic away from a table that an embedding shares.
    return node("Gemm", {&a, &b}, a.dtype, {{"beta", 0.0F}, {"transB", std::int64_t{1}}});
  }
  return node("Gemm", {&a, &b, c}, a.dtype, {{"transB", std::int64_t{1}}});
}
Value GraphBuilder::Greater(const Value& a, const Value& b) {
  return node("Greater", {&a, &b}, Dtype::kBool);
}
Value GraphBuilder::LayerNormalization(const Value& x,
                                       const Value& scale,
                                       const Value& bias,
                                       float epsilon) {
  return node("LayerNormalization",
              {&x, &scale, &bias},
              x.dtype,
              {{"axis", std::int64_t{-1}}, {"epsilon", epsilon}});
}
Value GraphBuilder::LayerNormalization(const Value& x, const Value& scale, float epsilon) {
  return node("LayerNormalization",
              {&x, &scale},
              x.dtype,
              {{"axis", std::int64_t{-1}}, {"epsilon", epsilon}});
}
Value GraphBuilder::Less(const Value& a, const Value& b) {
  return node("Less", {&a, &b}, Dtype::kBool);
}
Value GraphBuilder::LessOrEqual(const Value& a, const Value& b) {
  return node("LessOrEqual", {&a, &b}, Dtype::kBool);
}
Value GraphBuilder::MatMul(const Value& a, const Value& b) {
  return node("MatMul", {&a, &b}, a.dtype);
}
Value GraphBuilder::Max(const Value& a, const Value& b) {
  return node("Max", {&a, &b}, a.dtype);
}
Value GraphBuilder::Min(const Value& a, const Value& b) {
  return node("Min", {&a, &b}, a.dtype);
}
Value GraphBuilder::Mul(const Value& a, const Value& b) {
  return node("Mul", {&a, &b}, a.dtype);
}
Value GraphBuilder::Neg(const Value& x) {
  return node("Neg", {&x}, x.dtype);
}
Value GraphBuilder::Not(const Value& x) {
  return node("Not", {&x}, Dtype::kBool);
}
Value GraphBuilder::Or(const Value& a, const Value& b) {
  return node("Or", {&a, &b}, Dtype::kBool);
}
Value GraphBuilder::Pad(const Value& x, const Value& pads) {
  return node("Pad", {&x, &pads}, x.dtype);
}
Value GraphBuilder::Pow(const Value& base, const Value& exponent) {
  return node("Pow", {&base, &exponent}, base.dtype);
}
Value GraphBuilder::Range(const Value& start, const Value& limit, const Value& delta) {
  return node("Range", {&start, &limit, &delta}, start.dtype);
}
Value GraphBuilder::ReduceMax(const Value& x) {
  return node("ReduceMax", {&x}, x.dtype, {{"keepdims", std::int64_t{0}}});
}
Value GraphBuilder::ReduceMax(const Value& x, std::int64_t axis) {
  if (opset_ >= 18) {  // axes became an input
    const Value axes = ints({axis});
    return node("ReduceMax", {&x, &axes}, x.dtype, {{"keepdims", std::int64_t{1}}});
  }
  return node("ReduceMax",
              {&x},
              x.dtype,
              {{"axes", std::vector<std::int64_t>{axis}}, {"keepdims", std::int64_t{1}}});
}
Value GraphBuilder::ReduceLogSumExp(const Value& x) {
  return reduce_last("ReduceLogSumExp", x);
}
Value GraphBuilder::ReduceMean(const Value& x) {
  return reduce_last("ReduceMean", x);
}
Value GraphBuilder::ReduceSum(const Value& x, std::int64_t axis, KeepDims keep_dims) {
  const Value axes = ints({axis});
  const std::int64_t keeps = keep_dims == KeepDims::kYes ? 1 : 0;
  return node("ReduceSum", {&x, &axes}, x.dtype, {{"keepdims", keeps}});
}
Value GraphBuilder::reduce_last(std::string_view op_type, const Value& x) {
  if (opset_ >= 18) {  // axes became an input
    const Value axes = ints({-1});
    return node(op_type, {&x, &axes}, x.dtype, {{"keepdims", std::int64_t{1}}});
  }
  return node(op_type,
              {&x},
              x.dtype,
              {{"axes", std::vector<std::int64_t>{-1}}, {"keepdims", std::int64_t{1}}});
}
Value GraphBuilder::Relu(const Value& x) {
  return node("Relu", {&x}, x.dtype);
}
Value GraphBuilder::Reshape(const Value& x, const Value& shape) {
  return node("Reshape", {&x, &shape}, x.dtype);
}
Value GraphBuilder::Shape(const Value& x, std::int64_t start, std::int64_t end) {
  return node("Shape", {&x}, Dtype::kInt64, {{"end", end}, {"start", start}});
}
Value GraphBuilder::Shape(const Value& x) {
  return node("Shape", {&x}, Dtype::kInt64);
}
Value GraphBuilder::Sigmoid(const Value& x) {
  return node("Sigmoid", {&x}, x.dtype);
}
Value GraphBuilder::Sin(const Value& x) {
  return node("Sin", {&x}, x.dtype);
}
Value GraphBuilder::Slice(const Value& x, const Value& starts, const Value& ends) {
  return node("Slice", {&x, &starts, &ends}, x.dtype);
}
Value GraphBuilder::Softmax(const Value& x) {
  return node("Softmax", {&x}, x.dtype, {{"axis", std::int64_t{-1}}});
}
std::pair<Value, Value> GraphBuilder::Split(const Value& x, std::int64_t axis) {
  std::vector<Attribute> attributes = {{"axis", axis}};
  if (opset_ >= 18) {
    attributes.push_back({"num_outputs", std::int64_t{2}});
  }
  const Value* const inputs[] = {&x};
  auto halves = node_with_outputs("Split", inputs, x.dtype, attributes, 2);
  return {std::move(halves[0]), std::move(halves[1])};
}
std::vector<Value> GraphBuilder::Split(const Value& x,
                                       std::span<const std::int64_t> sizes,
                                       std::int64_t axis) {
  return Split(x, ints(sizes), sizes.size(), axis);
}
std::vector<Value> GraphBuilder::Split(const Value& x,
                                       const Value& sizes,
                                       std::size_t count,
                                       std::int64_t axis) {
  const Value* const inputs[] = {&x, &sizes};
  const Attribute attribute{"axis", axis};
  return node_with_outputs("Split", inputs, x.dtype, std::span(&attribute, 1), count);
}
Value GraphBuilder::Sqrt(const Value& x) {
  return node("Sqrt", {&x}, x.dtype);
}
Value GraphBuilder::Squeeze(const Value& x, const Value* axes) {
  return axes == nullptr ? node("Squeeze", {&x}, x.dtype) : node("Squeeze", {&x, axes}, x.dtype);
}
Value GraphBuilder::Sub(const Value& a, const Value& b) {
  return node("Sub", {&a, &b}, a.dtype);
}
Value GraphBuilder::Tanh(const Value& x) {
  return node("Tanh", {&x}, x.dtype);
}
TopValues GraphBuilder::TopK(const Value& x, const Value& k, TopOrder order) {
  const std::int64_t largest = order == TopOrder::kLargestFirst ? 1 : 0;
  const Attribute attributes[] = {{"axis", std::int64_t{-1}}, {"largest", largest}};
  const Value* const inputs[] = {&x, &k};
  auto outputs = node_with_outputs("TopK", inputs, x.dtype, attributes, 2);
  outputs[1].dtype = Dtype::kInt64;
  model_.dtypes.insert_or_assign(outputs[1].name, Dtype::kInt64);
  return {std::move(outputs[0]), std::move(outputs[1])};
}
Value GraphBuilder::Transpose(const Value& x, std::vector<std::int64_t> permutation) {
  return node("Transpose", {&x}, x.dtype, {{"perm", std::move(permutation)}});
}
Value GraphBuilder::Unsqueeze(const Value& x, std::initializer_list<std::int64_t> axes) {
  const Value axes_value = ints(axes);
  return node("Unsqueeze", {&x, &axes_value}, x.dtype);
}
Value GraphBuilder::Where(const Value& condition, const Value& a, const Value& b) {
  return node("Where", {&condition, &a, &b}, a.dtype);
}

}  // namespace onnxferry
