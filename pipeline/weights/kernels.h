#pragma once

#include <cstddef>
#include <cstdint>

/// SIMD kernels, dispatched at run time to what the processor offers. Every target gives the same
/// bytes: conversions are integer arithmetic on the bits, never the processor's own instruction.
namespace onnxferry::kernels {

/// What a finite or infinite value beyond the target's range becomes.
enum class Overflow : std::uint8_t {
  kToInfinity,
  kClamp,  ///< the largest finite value, sign kept; NaN stays NaN
};

/// Convert `count` elements. Any alignment; `in` and `out` may not overlap.
using ConvertFunction = void (*)(const std::byte* in,
                                 std::byte* out,
                                 std::size_t count,
                                 Overflow overflow);

/// Exact; `overflow` is not used by the two.
void bf16_to_f32(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow);
void f16_to_f32(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow);
/// Round to nearest even; NaN stays NaN. Source: IEEE 754-2019 section 5.4.2.
void f32_to_f16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow);
void f32_to_bf16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow);
void bf16_to_f16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow);
void f16_to_bf16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow);

/// A tile of a matrix to transpose: `rows` x `columns` on the input side. Pitches are in bytes.
struct TileShape {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::size_t in_pitch = 0;   ///< from one input row to the next
  std::size_t out_pitch = 0;  ///< from one output row (input column) to the next
};

/// out[column][row] = in[row][column] for elements of 16 or 32 bits. Any alignment.
void transpose_16(const std::byte* in, std::byte* out, const TileShape& tile);
void transpose_32(const std::byte* in, std::byte* out, const TileShape& tile);

}  // namespace onnxferry::kernels
