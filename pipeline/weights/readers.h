#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "pipeline/weights/buffer_pool.h"
#include "pipeline/weights/convert.h"
#include "pipeline/weights/evaluator.h"
#include "pipeline/weights/recipe.h"

namespace onnxferry {

/// One recipe node being evaluated: hands out the node's bytes front to back. The recipe, the
/// source and the pool outlive it.
class Reader {
 public:
  virtual ~Reader() = default;
  /// Fill `out` with the next out.size() bytes: whole elements, never past the node's end.
  virtual void read(std::span<std::byte> out) = 0;
};

struct EvaluationContext {
  const TensorSource& source;
  const EvaluationLimits& limits;
  BufferPool& pool;
};

std::unique_ptr<Reader> make_reader(const RecipeNode& node, const EvaluationContext& context);

/// For views; in view_readers.cc.
std::unique_ptr<Reader> make_view_reader(const RecipeNode& node, const EvaluationContext& context);

/// For MXFP4; in mxfp4_reader.cc.
std::unique_ptr<Reader> make_mxfp4_reader(const RecipeNode& node, const EvaluationContext& context);

/// What a transposing reader converts each element to.
struct TargetType {
  Dtype dtype;
  kernels::Overflow overflow = kernels::Overflow::kToInfinity;
};

/// Whether the view is a transposed matrix: columns of stored rows, one after the other.
bool is_transposed(const RecipeNode& view);
/// A transposed view, converted on the way; in transpose_reader.cc.
std::unique_ptr<Reader> make_transpose_reader(const RecipeNode& view,
                                              TargetType target,
                                              const EvaluationContext& context);

}  // namespace onnxferry
