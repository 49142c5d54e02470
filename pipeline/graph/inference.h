#pragma once

#include <span>
#include <vector>

#include <onnx/defs/shape_inference.h>
#include <onnx/onnx_pb.h>

namespace onnxferry {

/// What shape inference knows of a value. Everything is owned by others.
struct KnownValue {
  const onnx::TypeProto* type = nullptr;      ///< nullptr: not inferred
  const onnx::TensorProto* data = nullptr;    ///< a constant's elements
  onnx::TensorShapeProto* partial = nullptr;  ///< elements as far as they are known: a shape's dims
};

/// One node as an operator's inference function sees it. onnx's own driver has a context like this
/// one, over maps by name that hold every value of the graph.
class NodeInference final : public onnx::InferenceContext {
 public:
  /// \param inputs   one per input of the node
  /// \param outputs  one per output, empty; the inference function fills them
  NodeInference(const onnx::NodeProto& node,
                std::span<const KnownValue> inputs,
                std::span<onnx::TypeProto* const> outputs)
      : node_(node), inputs_(inputs), outputs_(outputs) {}

  const onnx::AttributeProto* getAttribute(const std::string& name) const override;
  std::size_t getNumInputs() const override { return inputs_.size(); }
  const onnx::TypeProto* getInputType(std::size_t index) const override;
  const onnx::TensorProto* getInputData(std::size_t index) const override;
  const onnx::SparseTensorProto* getInputSparseData(std::size_t index) const override;
  const onnx::TensorShapeProto* getSymbolicInput(std::size_t index) const override;
  std::size_t getNumOutputs() const override { return outputs_.size(); }
  onnx::TypeProto* getOutputType(std::size_t index) override;
  /// \throws onnx::InferenceError: no graph of ours has a graph inside
  onnx::GraphInferencer* getGraphAttributeInferencer(const std::string& name) override;

 private:
  const onnx::NodeProto& node_;
  std::span<const KnownValue> inputs_;
  std::span<onnx::TypeProto* const> outputs_;
};

/// One node as an operator's data propagation function sees it: what its outputs hold, as far as
/// that can be told.
class NodePropagation final : public onnx::DataPropagationContext {
 public:
  /// \param inputs   `partial` of a constant is set when it is asked for
  /// \param outputs  their types
  /// \param arena    owns what is propagated
  NodePropagation(const onnx::NodeProto& node,
                  std::span<KnownValue> inputs,
                  std::span<onnx::TypeProto* const> outputs,
                  google::protobuf::Arena& arena)
      : node_(node), inputs_(inputs), outputs_(outputs), arena_(arena), data_(outputs.size()) {}

  const onnx::AttributeProto* getAttribute(const std::string& name) const override;
  std::size_t getNumInputs() const override { return inputs_.size(); }
  const onnx::TypeProto* getInputType(std::size_t index) const override;
  std::size_t getNumOutputs() const override { return outputs_.size(); }
  const onnx::TypeProto* getOutputType(std::size_t index) const override;
  const onnx::TensorShapeProto* getInputData(std::size_t index) override;
  void addOutputData(std::size_t index, onnx::TensorShapeProto&& data) override;

  /// What output `index` holds, nullptr if nothing was propagated.
  [[nodiscard]] onnx::TensorShapeProto* data(std::size_t index) const { return data_[index]; }

 private:
  const onnx::NodeProto& node_;
  std::span<KnownValue> inputs_;
  std::span<onnx::TypeProto* const> outputs_;
  google::protobuf::Arena& arena_;
  std::vector<onnx::TensorShapeProto*> data_;
};

}  // namespace onnxferry
