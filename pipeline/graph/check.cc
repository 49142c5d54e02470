// The only file of this folder that includes the onnx checker (a heavy header).
//
// onnx's own check_model and InferShapes want a model whose weights are typed: a second one beside
// ours. They keep several maps by name of all its values, and time and memory of planning a large
// mixture of experts were mostly theirs. Here the same functions of the library are called node by
// node: the checker for the model around its nodes and for each node; inference, type constraints
// and data propagation of each node's operator.

#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>
#include <google/protobuf/arena.h>
#include <onnx/checker.h>
#include <onnx/onnx_pb.h>
#include <onnx/shape_inference/implementation.h>

#include "pipeline/error.h"
#include "pipeline/graph/inference.h"
#include "pipeline/graph/model.h"

namespace onnxferry {

namespace {

/// The linked onnx library may be older than the model's opset; what it does not know it cannot
/// check.
bool is_known_opset(const onnx::ModelProto& model) {
  const auto& versions = onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map();
  return model.opset_import(0).version() <= versions.at("").second;
}

/// One check of one graph.
class GraphCheck {
 public:
  explicit GraphCheck(const GraphModel& model)
      : recipes_(model.recipes), proto_(*model.proto), graph_(model.proto->graph()) {}

  void run() {
    make_frame();
    onnx::checker::check_model(frame_);
    context_.set_ir_version(static_cast<int>(proto_.ir_version()));
    context_.set_opset_imports({{"", static_cast<int>(proto_.opset_import(0).version())}});
    values_.reserve(static_cast<std::size_t>(graph_.node_size()));
    for (const onnx::ValueInfoProto& input : graph_.input()) {
      define(input.name(), {.type = &input.type()});
    }
    for (const onnx::TensorProto& constant : frame_.graph().initializer()) {
      const onnx::TypeProto* const type = weight_type(*recipes_.at(constant.name()));
      values_.emplace(constant.name(), KnownValue{.type = type, .data = &constant});
    }
    for (const onnx::ValueInfoProto& output : graph_.output()) {
      onnx::checker::check_value_info(output, context_);
      auto* const type = make<onnx::TypeProto>();
      *type = output.type();
      declared_.emplace(output.name(), type);
    }
    for (const onnx::NodeProto& node : graph_.node()) {
      check(node);
    }
    for (const onnx::ValueInfoProto& output : graph_.output()) {
      if (!values_.contains(output.name())) {
        fail_check("no node makes the graph output ", output.name());
      }
    }
  }

 private:
  template <typename Message>
  Message* make() {
    return google::protobuf::Arena::CreateMessage<Message>(&arena_);
  }

  /// The model without nodes, weights and outputs: newer versions of the library want a node that
  /// makes an output. Shapes and axes stay: inference needs their values.
  void make_frame() {
    frame_.set_ir_version(proto_.ir_version());
    frame_.set_producer_name(proto_.producer_name());
    *frame_.mutable_opset_import() = proto_.opset_import();
    *frame_.mutable_metadata_props() = proto_.metadata_props();
    onnx::GraphProto& graph = *frame_.mutable_graph();
    graph.set_name(graph_.name());
    *graph.mutable_input() = graph_.input();
    for (const auto& [name, recipe] : recipes_) {
      if (recipe->op == RecipeNode::Op::kLiteral) {
        onnx::TensorProto& constant = *graph.add_initializer();
        constant.set_name(name);
        constant.set_data_type(onnx_data_type(recipe->dtype));
        constant.mutable_dims()->Add(recipe->shape.begin(), recipe->shape.end());
        constant.set_raw_data(recipe->literal);
      }
    }
  }

  /// Equal types are one object, so that equal operators over them are seen to be equal.
  const onnx::TypeProto* shared(const onnx::TypeProto& type) {
    const onnx::TypeProto*& known = types_[type.SerializeAsString()];
    if (known == nullptr) {
      auto* const copy = make<onnx::TypeProto>();
      *copy = type;
      known = copy;
    }
    return known;
  }

  const onnx::TypeProto* weight_type(const RecipeNode& recipe) {
    const onnx::TypeProto*& known = weight_types_[{recipe.dtype, recipe.shape}];
    if (known == nullptr) {
      onnx::TypeProto type;
      auto& tensor = *type.mutable_tensor_type();
      tensor.set_elem_type(onnx_data_type(recipe.dtype));
      auto& shape = *tensor.mutable_shape();  // present for scalars, too
      for (const std::int64_t dim : recipe.shape) {
        shape.add_dim()->set_dim_value(dim);
      }
      known = shared(type);
    }
    return known;
  }

  /// \throws onnx::checker::ValidationError if something has that name already
  void define(std::string_view name, const KnownValue& value) {
    const bool is_weight = recipes_.contains(name);
    if (is_weight || !values_.emplace(name, value).second) {
      fail_check("graph must be in single static assignment form, but two values have the name ",
                 std::string(name));
    }
  }

  /// \throws onnx::checker::ValidationError if nothing before this node made it
  KnownValue find(const std::string& name, const onnx::NodeProto& reader) {
    if (name.empty()) {
      return {};  // an optional input
    }
    const auto known = values_.find(name);
    if (known != values_.end()) {
      return known->second;
    }
    const Recipe* const recipe = recipes_.find(name);
    if (recipe == nullptr) {
      fail_check("nodes must be topologically sorted, but input ",
                 name,
                 " of node ",
                 reader.name(),
                 " is made by none before it");
    }
    return {.type = weight_type(**recipe)};
  }

  const onnx::OpSchema& schema(const std::string& op_type) {
    const auto [at, is_new] = schemas_.try_emplace(op_type, nullptr);
    if (is_new) {
      at->second = onnx::OpSchemaRegistry::Instance()->GetSchema(
          op_type, static_cast<int>(proto_.opset_import(0).version()), "");
    }
    if (at->second == nullptr) {
      fail_check("operator ", op_type, " is not known");
    }
    return *at->second;
  }

  void check(const onnx::NodeProto& node) {
    inputs_.clear();
    for (const std::string& name : node.input()) {
      inputs_.push_back(find(name, node));
    }
    const bool is_plain = describe(node);
    const auto earlier = is_plain ? checked_.find(kind_) : checked_.end();
    if (earlier != checked_.end()) {
      define_outputs(node, earlier->second);
      return;
    }
    try {
      onnx::checker::check_node(node, context_, onnx::checker::LexicalScopeContext());
    } catch (onnx::checker::ValidationError& error) {
      error.AppendContext(fmt::format("node {}, operator {}", node.name(), node.op_type()));
      throw;
    }
    try {
      const std::vector<KnownValue> outputs = infer(node, schema(node.op_type()));
      define_outputs(node, outputs);
      if (is_plain) {
        checked_.emplace(kind_, outputs);
      }
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(onnx::shape_inference::GetErrorWithNodeInfo(node, error));
    }
  }

  /// Writes to kind_ all that the check of a node depends on. A mixture of experts has tens of
  /// thousands of nodes and few kinds, and each kind is checked once.
  /// \return whether that is all: no value of a constant, no declared type
  bool describe(const onnx::NodeProto& node) {
    kind_.assign(node.domain()).append(":").append(node.op_type());
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      kind_.append(std::to_string(attribute.ByteSizeLong())).append(":");
      attribute.AppendToString(&kind_);
    }
    bool is_plain = node.op_type() != "Constant";
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      kind_ += node.input(static_cast<int>(i)).empty() ? '-' : '+';
      kind_.append(reinterpret_cast<const char*>(&inputs_[i].type), sizeof(const void*));
      is_plain = is_plain && inputs_[i].data == nullptr && inputs_[i].partial == nullptr;
    }
    kind_ += '=';
    for (const std::string& name : node.output()) {
      kind_ += name.empty() ? '-' : '+';
      is_plain = is_plain && !declared_.contains(name);
    }
    return is_plain;
  }

  void define_outputs(const onnx::NodeProto& node, std::span<const KnownValue> outputs) {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const std::string& name = node.output(static_cast<int>(i));
      if (!name.empty()) {
        define(name, outputs[i]);
      }
    }
  }

  /// What its operator says of the node's outputs.
  std::vector<KnownValue> infer(const onnx::NodeProto& node, const onnx::OpSchema& schema) {
    std::vector<onnx::TypeProto*> types;
    types.reserve(static_cast<std::size_t>(node.output_size()));
    for (int i = 0; i < node.output_size(); ++i) {
      types.push_back(make<onnx::TypeProto>());
    }
    NodeInference inference(node, inputs_, types);
    if (schema.has_type_and_shape_inference_function()) {
      schema.GetTypeAndShapeInferenceFunction()(inference);
    } else {
      infer_function(schema, inference);
    }
    schema.CheckInputOutputType(inference);
    for (std::size_t i = 0; i < types.size(); ++i) {
      types[i] = settle(node.output(static_cast<int>(i)), types[i]);
    }
    std::optional<NodePropagation> propagation;
    if (schema.has_data_propagation_function()) {
      propagation.emplace(node, inputs_, types, arena_);
      schema.GetDataPropagationFunction()(*propagation);
    }
    std::vector<KnownValue> outputs;
    outputs.reserve(types.size());
    for (std::size_t i = 0; i < types.size(); ++i) {
      outputs.push_back({.type = types[i] == nullptr ? nullptr : shared(*types[i]),
                         .data = constant_of(node),
                         .partial = propagation ? propagation->data(i) : nullptr});
    }
    return outputs;
  }

  /// For operators that are defined by others alone, such as LessOrEqual.
  static void infer_function(const onnx::OpSchema& schema, NodeInference& inference) {
    if (!schema.HasFunction()) {
      fail_check("operator ", schema.Name(), " has no shape inference");
    }
    const onnx::ShapeInferenceOptions strict{
        /*check_type_val=*/true, /*strict_mode_val=*/1, /*data_prop_val=*/true};
    std::unordered_map<std::string, onnx::TensorShapeProto> inside;
    onnx::shape_inference::InferShapeForFunctionNode(*schema.GetFunction(),
                                                     onnx::OpSchemaRegistry::Instance(),
                                                     inference,
                                                     strict,
                                                     {},
                                                     /*symbolTable=*/nullptr,
                                                     &inside);
  }

  /// The type of a value after inference. A graph output's must be what is declared.
  onnx::TypeProto* settle(const std::string& name, onnx::TypeProto* inferred) {
    if (inferred->value_case() == onnx::TypeProto::VALUE_NOT_SET) {
      return nullptr;
    }
    const auto declared = declared_.find(name);
    if (declared == declared_.end()) {
      return inferred;
    }
    onnx::shape_inference::mergeShapesAndTypes(*inferred, declared->second);
    return declared->second;
  }

  static const onnx::TensorProto* constant_of(const onnx::NodeProto& node) {
    const bool is_constant = node.op_type() == "Constant" && node.attribute_size() == 1 &&
                             node.attribute(0).name() == "value";
    return is_constant ? &node.attribute(0).t() : nullptr;
  }

  const RecipeTable& recipes_;
  const onnx::ModelProto& proto_;
  const onnx::GraphProto& graph_;
  google::protobuf::Arena arena_;
  onnx::ModelProto frame_;
  onnx::checker::CheckerContext context_;
  std::unordered_map<std::string_view, KnownValue> values_;          // made so far; no weights
  std::unordered_map<std::string_view, onnx::TypeProto*> declared_;  // of graph outputs
  std::unordered_map<std::string, const onnx::OpSchema*> schemas_;
  std::unordered_map<std::string, const onnx::TypeProto*> types_;  // by their bytes
  std::map<std::pair<Dtype, Shape>, const onnx::TypeProto*> weight_types_;
  std::unordered_map<std::string, std::vector<KnownValue>> checked_;  // kind of node → outputs

  // of the node being checked
  std::vector<KnownValue> inputs_;
  std::string kind_;
};

}  // namespace

void check_graph(const GraphModel& model) {
  if (!is_known_opset(*model.proto)) {
    return;  // ONNX Runtime's load checks it in the verify stage
  }
  try {
    GraphCheck(model).run();
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kInternal,
                fmt::format("the exported graph is invalid: {}", error.what()));
  }
}

}  // namespace onnxferry
