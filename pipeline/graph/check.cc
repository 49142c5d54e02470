// The only file of this folder that includes the onnx checker (a heavy header).
//
// onnx's own check_model and InferShapes want a model whose weights are typed: a second one beside
// ours. They keep several maps by name of all its values, and time and memory of planning a large
// mixture of experts were mostly theirs. Here the same functions of the library are called node by
// node: the checker for the model around its nodes and for each node; inference, type constraints
// and data propagation of each node's operator.

#include <deque>
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

void set_type(onnx::TypeProto& type, const RecipeNode& recipe) {
  auto& tensor = *type.mutable_tensor_type();
  tensor.set_elem_type(onnx_data_type(recipe.dtype));
  auto& shape = *tensor.mutable_shape();  // present for scalars, too
  for (const std::int64_t dim : recipe.shape) {
    shape.add_dim()->set_dim_value(dim);
  }
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
    for (const onnx::ValueInfoProto& input : graph_.input()) {
      define(input.name(), {.type = &input.type()});
    }
    for (const onnx::TensorProto& constant : frame_.graph().initializer()) {
      auto* const type = make<onnx::TypeProto>();
      set_type(*type, *recipes_.at(constant.name()));
      values_.emplace(constant.name(), KnownValue{.type = type, .data = &constant});
    }
    for (const onnx::ValueInfoProto& output : graph_.output()) {
      auto* const type = make<onnx::TypeProto>();
      *type = output.type();
      declared_.emplace(output.name(), type);
    }
    symbols_.addFromGraph(frame_.graph());
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

  /// The model without nodes and weights. Shapes and axes stay: inference needs their values.
  void make_frame() {
    frame_.set_ir_version(proto_.ir_version());
    frame_.set_producer_name(proto_.producer_name());
    *frame_.mutable_opset_import() = proto_.opset_import();
    *frame_.mutable_metadata_props() = proto_.metadata_props();
    onnx::GraphProto& graph = *frame_.mutable_graph();
    graph.set_name(graph_.name());
    *graph.mutable_input() = graph_.input();
    *graph.mutable_output() = graph_.output();
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
    // Made anew for each reader: most weights have one, and keeping all types would cost more.
    if (used_weight_types_ == weight_types_.size()) {
      weight_types_.emplace_back();
    }
    onnx::TypeProto& type = weight_types_[used_weight_types_++];
    type.mutable_tensor_type()->mutable_shape()->clear_dim();
    set_type(type, **recipe);
    return {.type = &type};
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
    used_weight_types_ = 0;
    for (const std::string& name : node.input()) {
      inputs_.push_back(find(name, node));
    }
    try {
      onnx::checker::check_node(node, context_, onnx::checker::LexicalScopeContext());
    } catch (onnx::checker::ValidationError& error) {
      error.AppendContext(fmt::format("node {}, operator {}", node.name(), node.op_type()));
      throw;
    }
    try {
      infer(node, schema(node.op_type()));
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(onnx::shape_inference::GetErrorWithNodeInfo(node, error));
    }
  }

  void infer(const onnx::NodeProto& node, const onnx::OpSchema& schema) {
    outputs_.clear();
    for (int i = 0; i < node.output_size(); ++i) {
      outputs_.push_back(make<onnx::TypeProto>());
    }
    NodeInference inference(node, inputs_, outputs_);
    if (schema.has_type_and_shape_inference_function()) {
      schema.GetTypeAndShapeInferenceFunction()(inference);
    } else {
      infer_function(schema, inference);
    }
    schema.CheckInputOutputType(inference);
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      outputs_[i] = settle(node.output(static_cast<int>(i)), outputs_[i]);
    }
    std::optional<NodePropagation> propagation;
    if (schema.has_data_propagation_function()) {
      propagation.emplace(node, inputs_, outputs_, arena_);
      schema.GetDataPropagationFunction()(*propagation);
    }
    const onnx::TensorProto* const data = constant_of(node);
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const std::string& name = node.output(static_cast<int>(i));
      if (!name.empty()) {
        define(name,
               {.type = outputs_[i],
                .data = data,
                .partial = propagation ? propagation->data(i) : nullptr});
      }
    }
  }

  /// For operators that are defined by others alone, such as LessOrEqual.
  void infer_function(const onnx::OpSchema& schema, NodeInference& inference) {
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
                                                     &symbols_,
                                                     &inside);
  }

  /// The type of a value after inference. A graph output's must be what is declared.
  onnx::TypeProto* settle(const std::string& name, onnx::TypeProto* inferred) {
    if (inferred->value_case() == onnx::TypeProto::VALUE_NOT_SET) {
      return nullptr;
    }
    onnx::shape_inference::MaterializeSymbolicShape(inferred, symbols_);
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
  onnx::shape_inference::SymbolTableImpl symbols_;
  std::unordered_map<std::string_view, KnownValue> values_;          // made so far; no weights
  std::unordered_map<std::string_view, onnx::TypeProto*> declared_;  // of graph outputs
  std::unordered_map<std::string, const onnx::OpSchema*> schemas_;

  // of the node being checked
  std::vector<KnownValue> inputs_;
  std::vector<onnx::TypeProto*> outputs_;
  std::deque<onnx::TypeProto> weight_types_;
  std::size_t used_weight_types_ = 0;
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
