#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <onnx/onnx_pb.h>

#include "pipeline/graph/model.h"

namespace onnxferry {
namespace {

std::string dims_text(const Dims& dims) {
  std::vector<std::string> parts;
  parts.reserve(dims.size());
  for (const Dim& dim : dims) {
    parts.push_back(std::holds_alternative<std::int64_t>(dim)
                        ? fmt::to_string(std::get<std::int64_t>(dim))
                        : std::get<std::string>(dim));
  }
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

template <typename Element>
std::vector<Element> elements(const std::string& bytes) {
  std::vector<Element> values(bytes.size() / sizeof(Element));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(Element));
  return values;
}

/// The tensor as stored: same shape, row-major.
bool is_whole_tensor(const RecipeNode& view) {
  std::int64_t stride = 1;
  for (std::size_t i = view.shape.size(); i-- > 0; stride *= view.shape[i]) {
    if (view.shape[i] != 1 && view.strides[i] != stride) {
      return false;
    }
  }
  return view.shape == view.tensor->shape && view.view_offset == 0;
}

/// The recipe as an expression; a strided view prints as "tensor+offset:strides".
std::string recipe_text(const RecipeNode& recipe) {
  std::vector<std::string> inputs;
  inputs.reserve(recipe.inputs.size());
  for (const Recipe& input : recipe.inputs) {
    inputs.push_back(recipe_text(*input));
  }
  using Op = RecipeNode::Op;
  switch (recipe.op) {
    case Op::kView:
      return is_whole_tensor(recipe) ? recipe.tensor->name
                                     : fmt::format("{}+{}:{}",
                                                   recipe.tensor->name,
                                                   recipe.view_offset,
                                                   fmt::join(recipe.strides, ","));
    case Op::kConcat:
      return fmt::format("concat({})", fmt::join(inputs, ", "));
    case Op::kCast:
      return fmt::format(
          "{}({}{})", onnx_name(recipe.dtype), inputs.front(), recipe.clamp ? ", clamp" : "");
    case Op::kAffine:
      return fmt::format("{} * {:.9g} + {:.9g}", inputs.front(), recipe.scale, recipe.shift);
    case Op::kBinary: {
      constexpr std::string_view kSigns[] = {"+", "*", "/"};
      return fmt::format(
          "({} {} {})", inputs[0], kSigns[static_cast<std::size_t>(recipe.binary)], inputs[1]);
    }
    case Op::kMxfp4:
      return fmt::format("transposed_mxfp4({}, {})", inputs[0], inputs[1]);
    case Op::kGenerate:
      return "generate()";
    case Op::kLiteral:
      return recipe.dtype == Dtype::kInt64
                 ? fmt::format("{}", fmt::join(elements<std::int64_t>(recipe.literal), " "))
             : recipe.dtype == Dtype::kFloat32
                 ? fmt::format("{:.9g}", fmt::join(elements<float>(recipe.literal), " "))
                 : fmt::format("{} bytes", recipe.literal.size());
  }
  return "";
}

std::string attribute_text(const onnx::AttributeProto& attribute) {
  switch (attribute.type()) {
    case onnx::AttributeProto::INT:
      return fmt::format("{}={}", attribute.name(), attribute.i());
    case onnx::AttributeProto::FLOAT:
      return fmt::format("{}={:.9g}", attribute.name(), attribute.f());
    case onnx::AttributeProto::INTS:
      return fmt::format("{}=[{}]", attribute.name(), fmt::join(attribute.ints(), ","));
    default:
      return fmt::format("{}=?", attribute.name());
  }
}

}  // namespace

std::string print_graph(const GraphModel& model) {
  std::string text = fmt::format(
      "opset {} ir {}\n", model.proto->opset_import(0).version(), model.proto->ir_version());
  for (const Port& input : model.inputs) {
    text +=
        fmt::format("input {} {} {}\n", input.name, onnx_name(input.dtype), dims_text(input.dims));
  }
  for (const auto& [name, recipe] : model.recipes) {
    text += fmt::format("weight {} {} [{}] = {}\n",
                        name,
                        onnx_name(recipe->dtype),
                        fmt::join(recipe->shape, ", "),
                        recipe_text(*recipe));
  }
  for (const onnx::NodeProto& node : model.proto->graph().node()) {
    std::vector<std::string> attributes;
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      attributes.push_back(attribute_text(attribute));
    }
    text += fmt::format("{}: {} = {}({}{}{})\n",
                        node.name(),
                        fmt::join(node.output(), ", "),
                        node.op_type(),
                        fmt::join(node.input(), ", "),
                        attributes.empty() ? "" : "; ",
                        fmt::join(attributes, " "));
  }
  for (const Port& output : model.outputs) {
    text += fmt::format(
        "output {} {} {}\n", output.name, onnx_name(output.dtype), dims_text(output.dims));
  }
  return text;
}

}  // namespace onnxferry
