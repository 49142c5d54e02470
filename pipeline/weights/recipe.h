#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pipeline/checkpoint/checkpoint.h"

namespace onnxferry {

struct RecipeNode;
/// How the bytes of one initializer come about: a small immutable expression over checkpoint
/// tensors. Its dtype, shape and size are known before a byte is read. Cheap to copy.
using Recipe = std::shared_ptr<const RecipeNode>;

enum class BinaryOp : std::uint8_t { kAdd, kMul, kDiv };

struct RecipeNode {
  enum class Op : std::uint8_t {
    kView,
    kConcat,
    kCast,
    kAffine,
    kBinary,
    kMxfp4,
    kLiteral,
    kGenerate
  };
  Op op = Op::kLiteral;
  Dtype dtype = Dtype::kFloat32;  ///< of the result
  Shape shape;                    ///< of the result, row-major
  std::vector<Recipe> inputs;

  // kView: element (i, j, …) is stored element view_offset + i * strides[0] + j * strides[1] + …
  const TensorInfo* tensor = nullptr;
  std::int64_t view_offset = 0;       ///< elements
  std::vector<std::int64_t> strides;  ///< elements
  bool clamp = false;  ///< kCast: values beyond the target's range become its largest finite value
  double scale = 1, shift = 0;  ///< kAffine: scale * x + shift, computed in float32
  BinaryOp binary =
      BinaryOp::kAdd;   ///< kBinary: computed in float32; inputs[1] broadcasts over leading dims
  std::string literal;  ///< kLiteral: the bytes
  std::function<void(std::uint64_t first, std::span<std::byte> out)>
      generate;  ///< kGenerate: bytes from element `first`
};

/// The whole tensor, in row-major order however it is stored.
Recipe view(const TensorInfo& tensor);
/// A strided window; offset and strides count row-major elements, however the tensor is stored.
/// \throws Error{kInternal} if it reaches outside the tensor; Error{kUnsupportedModel} if the
///         tensor is stored in an order in which this is no window (rows and transposes always are)
Recipe view(const TensorInfo& tensor,
            std::int64_t offset,
            Shape shape,
            std::vector<std::int64_t> strides);
/// Rows [first, first + count) of the first dimension of a view.
Recipe rows(const Recipe& source, std::int64_t first, std::int64_t count);
/// [rows, columns] → [columns, rows]; `source` must be a 2-d view, or casts and affines over one.
Recipe transpose(const Recipe& source);
/// Along the first dimension; equal dtypes and trailing dims.
Recipe concat(std::vector<Recipe> parts);
/// Rounds to nearest even. Casting to the same dtype gives `source` itself.
Recipe cast(const Recipe& source, Dtype dtype, bool clamp = false);
/// scale * x + shift in float32; the result keeps `source`'s dtype if it is a float type of 32
/// bits, else float32.
Recipe affine(const Recipe& source, double scale, double shift);
Recipe binary(BinaryOp op, const Recipe& left, const Recipe& right);
/// A matrix that is stored in MXFP4, transposed: 4-bit floats (1 sign, 2 exponent, 1 mantissa bit),
/// of which 32 in a row share a power of two. Exact in float32.
///
/// \param blocks  2-d view, uint8 [rows, columns / 2]: two values a byte, the first in the low half
/// \param scales  2-d view, uint8 [rows, columns / 32]: exponents, 127 more than they mean
/// \return        float32 [columns, rows]
/// Source: OCP Microscaling Formats 1.0, 5.2 and 5.3.3; transformers' convert_moe_packed_tensors
Recipe transposed_mxfp4(const Recipe& blocks, const Recipe& scales);
Recipe literal(Dtype dtype, Shape shape, std::string bytes);
Recipe generate(Dtype dtype,
                Shape shape,
                std::function<void(std::uint64_t, std::span<std::byte>)> function);

std::uint64_t byte_size(const Recipe& recipe);
/// Every checkpoint tensor that the recipe reads, in order of first use.
std::vector<const TensorInfo*> sources(const Recipe& recipe);
/// The first of them, nullptr if there is none. No allocation.
const TensorInfo* first_source(const Recipe& recipe);

}  // namespace onnxferry
