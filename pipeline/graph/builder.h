#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/graph/model.h"

namespace onnxferry {

/// An operator attribute.
struct Attribute {
  std::string_view name;
  std::variant<std::int64_t, float, std::vector<std::int64_t>> value;
};

/// Attributes of a Conv over one axis.
struct ConvAttributes {
  std::int64_t kernel = 1;
  std::int64_t padding = 0;  ///< zeros at either end
  std::int64_t groups = 1;
  std::size_t trailing_axes = 0;  ///< of x, which the kernel does not span: it ends in as many 1
};

enum class KeepDims : std::uint8_t { kNo, kYes };
enum class TopOrder : std::uint8_t { kLargestFirst, kSmallestFirst };

/// Both outputs of TopK.
struct TopValues {
  Value values;
  Value indices;  ///< int64
};

/// Builds one ONNX graph, node by node. Methods that emit exactly one node have the ONNX operator's
/// name and argument order; helpers of several nodes live in layers.h.
///
/// Nodes are named like torch's exporter names them: "/model/layers.0/self_attn/q_proj/MatMul",
/// from the open scopes and the operator; outputs "<node>_output_0". Constants are pooled by dtype,
/// shape and bytes. Usage: one builder per graph; `auto scope = g.scope("encoder");` … `GraphModel
/// model = std::move(g).finish();` Thread: one.
class GraphBuilder {
 public:
  /// \param tensors  the checkpoint; must outlive the model's recipes
  /// \param opset    17 or 18
  GraphBuilder(const WeightFiles& tensors, int opset);
  GraphBuilder(const GraphBuilder&) = delete;
  GraphBuilder& operator=(const GraphBuilder&) = delete;
  ~GraphBuilder();

  /// Opens a name scope until the returned guard dies; "encoder/layer.0" opens two.
  class Scope {
   public:
    explicit Scope(GraphBuilder& builder, std::string_view path, bool keep_float32);
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope();

   private:
    GraphBuilder& builder_;
    std::size_t old_length_;
    bool old_keep_float32_;
  };
  [[nodiscard]] Scope scope(std::string_view path) { return Scope(*this, path, keep_float32_); }
  /// A scope whose nodes compute in float32 even in half-precision models (norm statistics, rotary
  /// angles).
  [[nodiscard]] Scope float32_scope(std::string_view path) { return Scope(*this, path, true); }

  // --- checkpoint tensors
  // -------------------------------------------------------------------------------

  [[nodiscard]] const WeightFiles& tensors() const { return tensors_; }
  [[nodiscard]] bool has_tensor(std::string_view key) const {
    return tensors_.find(key) != nullptr;
  }
  /// The tensor, which must have this shape. \throws Error{kCorruptCheckpoint} naming key, found
  /// and expected
  const TensorInfo& tensor(std::string_view key, const Shape& shape) const;
  /// The same for a tensor of bytes, the packed form of another.
  const TensorInfo& packed_tensor(std::string_view key, const Shape& shape) const;
  /// An initializer named `key` holding the tensor as float32.
  Value weight(std::string_view key, const Shape& shape);
  /// A [rows, columns] tensor as initializer `<key>_t` [columns, rows].
  Value transposed_weight(std::string_view key, const Shape& shape);
  /// An initializer from any recipe; a second call with the same name returns the first's value.
  Value initializer(std::string name, Recipe recipe);

  // --- constants
  // ----------------------------------------------------------------------------------------

  Value ints(std::initializer_list<std::int64_t> values) {
    return ints(std::span(values.begin(), values.size()));
  }
  Value ints(std::span<const std::int64_t> values);  ///< int64 [n]
  Value int_scalar(std::int64_t value);              ///< int64 []
  Value float_scalar(float value);                   ///< float32 []
  Value floats(std::span<const float> values);       ///< float32 [n]
  Value floats(std::span<const float> values, onnxferry::Shape shape);
  Value lowest();  ///< float32 [], see kLowestName
  /// int64 [n, 1]
  Value int_column(std::span<const std::int64_t> values);

  // --- graph inputs and outputs
  // -------------------------------------------------------------------------

  Value input(std::string name, Dtype dtype, Dims dims);
  /// Make `value` the graph output `name`: the node that makes it gets this output name.
  void output(std::string name, const Value& value, Dims dims);

  // --- ONNX operators
  // -----------------------------------------------------------------------------------

  Value Abs(const Value& x);
  Value Add(const Value& a, const Value& b);
  Value And(const Value& a, const Value& b);
  Value ArgMax(const Value& x, std::int64_t axis);  ///< keepdims
  Value Cast(const Value& x, Dtype to);
  Value Clip(const Value& x, const Value& min, const Value& max);
  Value Concat(std::span<const Value> parts, std::int64_t axis);
  Value Concat(std::initializer_list<Value> parts, std::int64_t axis) {
    return Concat(std::span(parts.begin(), parts.size()), axis);
  }
  /// x [B, in, S, …], weight [out, in / groups, kernel, …] → [B, out, S, …]; zeros at both ends,
  /// stride 1.
  /// `bias` may be null.
  Value Conv(const Value& x,
             const Value& weight,
             const Value* bias,
             const ConvAttributes& attributes);
  Value Cos(const Value& x);
  Value CumSum(const Value& x, std::int64_t axis);
  Value Div(const Value& a, const Value& b);
  Value Equal(const Value& a, const Value& b);
  Value Erf(const Value& x);
  Value Exp(const Value& x);
  Value Expand(const Value& x, const Value& shape);
  Value Gather(const Value& data, const Value& indices, std::int64_t axis = 0);
  Value GatherElements(const Value& data, const Value& indices, std::int64_t axis);
  Value GatherND(const Value& data, const Value& indices, std::int64_t batch_dims);
  /// a [m, k], b [n, k] → [m, n]; `c` may be null
  Value GemmTransB(const Value& a, const Value& b, const Value* c);
  Value Greater(const Value& a, const Value& b);
  Value LayerNormalization(const Value& x, const Value& scale, const Value& bias, float epsilon);
  Value LayerNormalization(const Value& x, const Value& scale, float epsilon);
  Value Less(const Value& a, const Value& b);
  Value LessOrEqual(const Value& a, const Value& b);
  Value MatMul(const Value& a, const Value& b);
  Value Max(const Value& a, const Value& b);
  Value Min(const Value& a, const Value& b);
  Value Mul(const Value& a, const Value& b);
  Value Neg(const Value& x);
  Value Not(const Value& x);
  Value Or(const Value& a, const Value& b);
  Value Pad(const Value& x, const Value& pads);  ///< with zeros; all starts, then all ends
  Value Pow(const Value& base, const Value& exponent);
  Value Range(const Value& start, const Value& limit, const Value& delta);
  Value ReduceLogSumExp(const Value& x);               ///< over the last axis, keepdims
  Value ReduceMax(const Value& x);                     ///< over all axes, to a scalar
  Value ReduceMax(const Value& x, std::int64_t axis);  ///< keepdims
  Value ReduceMean(const Value& x);                    ///< over the last axis, keepdims
  Value ReduceSum(const Value& x, std::int64_t axis, KeepDims keep_dims = KeepDims::kYes);
  Value Relu(const Value& x);
  Value Reshape(const Value& x, const Value& shape);
  /// Dims [start, end) of x's shape, int64 [end - start].
  Value Shape(const Value& x, std::int64_t start, std::int64_t end);
  Value Shape(const Value& x);
  Value Sigmoid(const Value& x);
  Value Sin(const Value& x);
  Value Slice(const Value& x, const Value& starts, const Value& ends);  ///< over the first axes
  Value Softmax(const Value& x);                                        ///< over the last axis
  /// Parts of the given sizes along `axis`.
  std::vector<Value> Split(const Value& x, std::span<const std::int64_t> sizes, std::int64_t axis);
  /// `count` parts along `axis` whose sizes, int64 [count], are known at run time only.
  std::vector<Value> Split(const Value& x,
                           const Value& sizes,
                           std::size_t count,
                           std::int64_t axis);
  /// Equal halves along `axis`.
  std::pair<Value, Value> Split(const Value& x, std::int64_t axis);
  Value Sqrt(const Value& x);
  Value Squeeze(const Value& x, const Value* axes = nullptr);
  Value Sub(const Value& a, const Value& b);
  Value Tanh(const Value& x);
  /// The first `k`, int64 [1], of the last axis in the order asked for; equal ones in the order
  /// they stand.
  TopValues TopK(const Value& x, const Value& k, TopOrder order);
  Value Transpose(const Value& x, std::vector<std::int64_t> permutation);
  Value Unsqueeze(const Value& x, std::initializer_list<std::int64_t> axes);
  Value Where(const Value& condition, const Value& a, const Value& b);

  /// The finished model. Initializers that no node reads are dropped.
  GraphModel finish() &&;

 private:
  Value node(std::string_view op_type,
             std::initializer_list<const Value*> inputs,
             Dtype dtype,
             std::initializer_list<Attribute> attributes = {});
  std::vector<Value> node_with_outputs(std::string_view op_type,
                                       std::span<const Value* const> inputs,
                                       Dtype dtype,
                                       std::span<const Attribute> attributes,
                                       std::size_t output_count);
  Value reduce_last(std::string_view op_type, const Value& x);
  Value constant(Dtype dtype, onnxferry::Shape shape, std::string bytes);
  const TensorInfo& tensor_of_shape(std::string_view key, const onnxferry::Shape& shape) const;
  void set_dtype(const std::string& value, Dtype dtype);

  const WeightFiles& tensors_;
  int opset_;
  std::string scope_;  // "/model/layers.0", empty at the top
  bool keep_float32_ = false;
  std::unordered_map<std::string_view, int> name_counts_;   // first node's name → later ones
  std::unordered_map<std::string, std::string> constants_;  // dtype + shape + bytes → name
  std::unordered_map<std::string, std::string> renamed_;    // value → graph output name
  GraphModel model_;
};

}  // namespace onnxferry
