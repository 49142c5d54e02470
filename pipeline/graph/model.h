#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "pipeline/graph/value.h"
#include "pipeline/weights/recipe.h"

namespace onnx {
class ModelProto;
}

namespace onnxferry {

/// Name of the initializer that stands for "minus infinity" in additive masks: finfo.min in
/// float32; the float16 pass gives it another value (-65504 plus a score would be -inf, and a fully
/// masked row NaN).
inline constexpr std::string_view kLowestName = "lowest";

/// One ONNX file before its weights: the graph without any payload, and a recipe per initializer.
/// Passes rewrite both; nobody touches weight bytes before the writer.
struct GraphModel {
  std::unique_ptr<onnx::ModelProto> proto;  ///< initializers carry name, dims and data_type only
  std::map<std::string, Recipe, std::less<>>
      recipes;  ///< by initializer name; exactly the proto's initializers
  std::map<std::string, Dtype, std::less<>> dtypes;  ///< of every value in the graph
  std::set<std::string, std::less<>>
      float32_nodes;  ///< nodes that stay float32 in half-precision models
  std::vector<Port> inputs;
  std::vector<Port> outputs;

  GraphModel();
  GraphModel(GraphModel&&) noexcept;
  GraphModel& operator=(GraphModel&&) noexcept;
  GraphModel(const GraphModel&) = delete;
  GraphModel& operator=(const GraphModel&) = delete;
  ~GraphModel();
};

/// Run the ONNX checker with type and shape inference on a copy whose weights are typed graph
/// inputs.
/// \throws Error{kInternal} with the checker's message: a graph we built is our responsibility
void check_graph(const GraphModel& model);

/// Text of the graph for golden tests: one line per input, initializer, node and output, in graph
/// order; float constants with 9 digits. Equal graphs give equal text on every machine.
std::string print_graph(const GraphModel& model);

}  // namespace onnxferry
