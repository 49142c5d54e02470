#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "pipeline/graph/recipe_table.h"
#include "pipeline/graph/value.h"

namespace onnx {
class ModelProto;
}

namespace onnxferry {

/// Name of the initializer that stands for "minus infinity" in additive masks: finfo.min in
/// float32; the float16 pass gives it another value (-65504 plus a score would be -inf, and a fully
/// masked row NaN).
inline constexpr std::string_view kLowestName = "lowest";

/// One ONNX file before its weights: the graph's nodes, inputs and outputs, and a recipe per
/// initializer. Passes rewrite both; nobody touches weight bytes before the writer.
struct GraphModel {
  std::unique_ptr<onnx::ModelProto> proto;  ///< without initializers: they are in `recipes`
  RecipeTable recipes;                      ///< the initializers
  /// Of the inputs and node outputs that are not float32. Most values are, and a mixture of experts
  /// has tens of thousands.
  std::unordered_map<std::string, Dtype> dtypes;
  std::unordered_set<std::string>
      float32_nodes;  ///< nodes that stay float32 in half-precision models
  std::vector<Port> inputs;
  std::vector<Port> outputs;

  GraphModel();
  GraphModel(GraphModel&&) noexcept;
  GraphModel& operator=(GraphModel&&) noexcept;
  GraphModel(const GraphModel&) = delete;
  GraphModel& operator=(const GraphModel&) = delete;
  ~GraphModel();

  /// Of an input, an initializer or a node's output.
  [[nodiscard]] Dtype dtype(const std::string& value) const;
};

/// Run the ONNX checker with type and shape inference, strict and with data propagation.
/// Cost: linear; memory about 200 bytes a value. Thread: any.
/// \throws Error{kInternal} with the checker's message: a graph we built is our responsibility
void check_graph(const GraphModel& model);

/// Text of the graph for golden tests: one line per input, initializer, node and output, in graph
/// order; float constants with 9 digits. Equal graphs give equal text on every machine.
std::string print_graph(const GraphModel& model);

}  // namespace onnxferry
