#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "pipeline/weights/buffer_pool.h"
#include "pipeline/weights/recipe.h"

namespace onnxferry {

/// Where evaluated bytes go: the evaluator writes into memory of the sink, so that nothing is
/// copied on the way to a file.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  /// Writable memory for the next bytes, `at_least` bytes of it or more.
  virtual std::span<std::byte> window(std::size_t at_least) = 0;
  /// The first `count` bytes of the window are final.
  virtual void advance(std::size_t count) = 0;
};

/// Memory bounds of an evaluation; tests make them small to reach every path with small tensors.
struct EvaluationLimits {
  std::size_t strip_bytes = std::size_t{64} << 20;   ///< source columns of one transpose strip
  std::size_t gather_bytes = std::size_t{64} << 20;  ///< source blocks kept for a strided view
  std::size_t block_bytes = std::size_t{256} << 10;  ///< elements between two steps of a recipe
};

/// Evaluates recipes one after another and keeps its scratch memory between them. Thread: one.
class Evaluator {
 public:
  explicit Evaluator(const TensorSource& source, EvaluationLimits limits = {})
      : source_(source), limits_(limits) {}

  /// Put the recipe's byte_size() bytes into `sink`, in order.
  ///
  /// \throws what source.read and the sink throw; the sink then has a part of the bytes
  void run(const Recipe& recipe, ByteSink& sink);

 private:
  const TensorSource& source_;
  EvaluationLimits limits_;
  BufferPool pool_;
};

}  // namespace onnxferry
