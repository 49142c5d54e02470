#include "pipeline/passes/float16.h"

#include <cstring>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <fmt/format.h>
#include <onnx/onnx_pb.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr float kLowestFloat16 = -32752.0F;

/// Rewrites one graph; nodes are copied in order so that Casts land where they are first needed.
class Float16Pass {
 public:
  explicit Float16Pass(GraphModel& model) : model_(model), old_nodes_(take_nodes(model)) {}

  void run() {
    convert_initializers();
    for (const Port& input : model_.inputs) {
      if (input.dtype == Dtype::kFloat32) {
        half_.emplace(input.name, add_cast(input.name, Dtype::kFloat16, input.name + "_float16"));
      }
    }
    rename_outputs();
    for (const onnx::NodeProto& node : old_nodes_) {
      if (model_.float32_nodes.contains(node.name())) {
        copy_float32_node(node);
      } else {
        copy_half_node(node);
      }
    }
    for (const Port& output : model_.outputs) {
      if (renamed_.contains(output.name)) {
        add_cast_node(half_name(internal_name(output.name)), output.name, Dtype::kFloat32);
      }
    }
    drop_unused_initializers();
  }

 private:
  static google::protobuf::RepeatedPtrField<onnx::NodeProto> take_nodes(GraphModel& model) {
    google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
    nodes.Swap(model.proto->mutable_graph()->mutable_node());
    return nodes;
  }

  /// Whether the graph as it was has float32 there.
  [[nodiscard]] bool is_float(const std::string& value) const {
    return !value.empty() && (float32_recipes_.contains(value) || single_.contains(value) ||
                              model_.dtype(value) == Dtype::kFloat32);
  }

  static std::string internal_name(const std::string& output) { return output + "_float16"; }

  /// Graph outputs of float32 nodes stay as they are: half precision may not even reach them.
  void rename_outputs() {
    std::unordered_set<std::string_view> singles;
    for (const onnx::NodeProto& node : old_nodes_) {
      if (model_.float32_nodes.contains(node.name())) {
        singles.insert(node.output().begin(), node.output().end());
      }
    }
    for (const Port& output : model_.outputs) {
      if (output.dtype == Dtype::kFloat32 && !singles.contains(output.name)) {
        renamed_.emplace(output.name, internal_name(output.name));
      }
    }
  }

  [[nodiscard]] const std::string& current(const std::string& value) const {
    const auto it = renamed_.find(value);
    return it == renamed_.end() ? value : it->second;
  }

  /// Weights that float32 nodes alone read keep their digits: a router's decide where tokens go.
  [[nodiscard]] std::unordered_set<std::string_view> read_in_half() const {
    std::unordered_set<std::string_view> names;
    for (const onnx::NodeProto& node : old_nodes_) {
      if (!model_.float32_nodes.contains(node.name())) {
        names.insert(node.input().begin(), node.input().end());
      }
    }
    return names;
  }

  void convert_initializers() {
    const std::unordered_set<std::string_view> converted = read_in_half();
    for (auto& [name, recipe] : model_.recipes) {
      if (recipe->dtype != Dtype::kFloat32) {
        continue;
      }
      if (recipe->op != RecipeNode::Op::kLiteral && !converted.contains(name)) {
        single_.emplace(name, name);
        continue;
      }
      float32_recipes_.emplace(name, recipe);
      if (name == kLowestName) {
        recipe =
            literal(Dtype::kFloat32,
                    {},
                    std::string(reinterpret_cast<const char*>(&kLowestFloat16), sizeof(float)));
      }
      recipe = cast(recipe, Dtype::kFloat16, /*clamp=*/true);
      half_.emplace(name, name);
    }
  }

  void add_cast_node(const std::string& from, const std::string& to, Dtype dtype) {
    onnx::NodeProto& node = *model_.proto->mutable_graph()->add_node();
    node.set_name(to + "_cast");
    node.set_op_type("Cast");
    node.add_input(from);
    node.add_output(to);
    onnx::AttributeProto& attribute = *node.add_attribute();
    attribute.set_name("to");
    attribute.set_type(onnx::AttributeProto::INT);
    attribute.set_i(onnx_data_type(dtype));
    if (dtype != Dtype::kFloat32) {
      half_dtypes_.push_back(to);
    }
  }

  std::string add_cast(const std::string& from, Dtype dtype, std::string to) {
    add_cast_node(from, to, dtype);
    return to;
  }

  /// The float16 form of a float value, cast on first use.
  std::string half_name(const std::string& value) {
    const auto known = half_.find(value);
    if (known != half_.end()) {
      return known->second;
    }
    const auto single = single_.find(value);
    EXPORT_CHECK(single != single_.end(), fmt::format("value {} is read before it is made", value));
    return half_.emplace(value, add_cast(single->second, Dtype::kFloat16, value + "_to_float16"))
        .first->second;
  }

  /// The float32 form of a float value: a small constant as a Constant node, anything else cast.
  std::string single_name(const std::string& value) {
    const auto known = single_.find(value);
    if (known != single_.end()) {
      return known->second;
    }
    const auto recipe = float32_recipes_.find(value);
    if (recipe != float32_recipes_.end() && recipe->second->op == RecipeNode::Op::kLiteral) {
      return single_.emplace(value, add_constant(value + "_float32", *recipe->second))
          .first->second;
    }
    const auto half = half_.find(value);
    EXPORT_CHECK(half != half_.end(), fmt::format("value {} is read before it is made", value));
    return single_.emplace(value, add_cast(half->second, Dtype::kFloat32, value + "_to_float32"))
        .first->second;
  }

  std::string add_constant(std::string name, const RecipeNode& recipe) {
    onnx::NodeProto& node = *model_.proto->mutable_graph()->add_node();
    node.set_name(name);
    node.set_op_type("Constant");
    node.add_output(name);
    onnx::AttributeProto& attribute = *node.add_attribute();
    attribute.set_name("value");
    attribute.set_type(onnx::AttributeProto::TENSOR);
    onnx::TensorProto& tensor = *attribute.mutable_t();
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    for (const std::int64_t dim : recipe.shape) {
      tensor.add_dims(dim);
    }
    tensor.set_raw_data(recipe.literal);
    return name;
  }

  void copy_half_node(const onnx::NodeProto& old) {
    onnx::NodeProto copy = old;
    for (std::string& input : *copy.mutable_input()) {
      if (is_float(current(input)) || half_.contains(input)) {
        input = half_name(current(input));
      }
    }
    for (std::string& output : *copy.mutable_output()) {
      output = current(output);
      if (is_float(output)) {
        half_.emplace(output, output);
      }
    }
    if (copy.op_type() == "Cast" && half_.contains(copy.output(0))) {
      copy.mutable_attribute(0)->set_i(onnx::TensorProto::FLOAT16);
    }
    *model_.proto->mutable_graph()->add_node() = std::move(copy);
    mark_half(old);
  }

  void mark_half(const onnx::NodeProto& old) {
    for (const std::string& output : old.output()) {
      const std::string& name = current(output);
      if (half_.contains(name)) {
        half_dtypes_.push_back(name);
      }
    }
  }

  void copy_float32_node(const onnx::NodeProto& old) {
    onnx::NodeProto copy = old;
    for (std::string& input : *copy.mutable_input()) {
      if (is_float(current(input)) || float32_recipes_.contains(input)) {
        input = single_name(current(input));
      }
    }
    for (std::string& output : *copy.mutable_output()) {
      output = current(output);
      if (is_float(output)) {
        single_.emplace(output, output);
      }
    }
    *model_.proto->mutable_graph()->add_node() = std::move(copy);
  }

  void drop_unused_initializers() {
    for (const std::string& name : half_dtypes_) {
      model_.dtypes.insert_or_assign(name, Dtype::kFloat16);
    }
    std::unordered_set<std::string_view> read;
    for (const onnx::NodeProto& node : model_.proto->graph().node()) {
      read.insert(node.input().begin(), node.input().end());
    }
    model_.recipes.keep_if([&](const NamedRecipe& entry) { return read.contains(entry.name); });
  }

  GraphModel& model_;
  google::protobuf::RepeatedPtrField<onnx::NodeProto> old_nodes_;
  std::unordered_map<std::string, Recipe> float32_recipes_;  // initializers as they were
  std::unordered_map<std::string, std::string> half_;        // value → its float16 form
  std::unordered_map<std::string, std::string> single_;      // value → its float32 form
  std::unordered_map<std::string, std::string>
      renamed_;  // graph output → the value before its Cast
  std::vector<std::string> half_dtypes_;
};

}  // namespace

void convert_to_float16(GraphModel& model) {
  Float16Pass(model).run();
}

}  // namespace onnxferry
