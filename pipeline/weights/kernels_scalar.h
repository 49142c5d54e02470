#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "pipeline/weights/kernels.h"

/// Plain versions of everything in kernels.h: what the SIMD kernels are tested against, and the
/// element conversions behind every cast without a kernel of its own.
namespace onnxferry::kernels::scalar {

inline constexpr std::uint32_t kFloat32Infinity = 0x7f800000;
inline constexpr std::uint32_t kFloat16Max = 0x477fe000;   ///< 65504 as float32 bits
inline constexpr std::uint32_t kBfloat16Max = 0x7f7f0000;  ///< the largest bfloat16 as float32 bits

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <typename T>
void store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof(T));
}

constexpr std::uint32_t bf16_to_f32(std::uint16_t bits) {
  return static_cast<std::uint32_t>(bits) << 16;
}

/// Exact; NaN keeps its payload. Source: IEEE 754-2019 3.4 (binary16).
constexpr std::uint32_t f16_to_f32(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(bits & 0x7fffU) << 13;
  const std::uint32_t exponent = magnitude & 0x0f800000U;
  if (exponent == 0x0f800000U) {  // infinity and NaN
    return sign | (magnitude + (224U << 23));
  }
  if (exponent == 0) {  // zero and subnormals: let a float subtraction normalise
    const auto magic = std::bit_cast<float>(113U << 23);
    return sign |
           std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude + (113U << 23)) - magic);
  }
  return sign | (magnitude + (112U << 23));
}

constexpr std::uint32_t clamp_magnitude(std::uint32_t magnitude,
                                        std::uint32_t largest,
                                        Overflow overflow) {
  const bool is_nan = magnitude > kFloat32Infinity;
  return overflow == Overflow::kClamp && !is_nan ? std::min(magnitude, largest) : magnitude;
}

/// Rounds to nearest even; NaN becomes the quiet NaN of the same sign.
/// Source: IEEE 754-2019 5.4.2; method: F. Giesen, "Float->half conversion".
constexpr std::uint16_t f32_to_f16(std::uint32_t bits, Overflow overflow) {
  const std::uint32_t sign = bits & 0x80000000U;
  const std::uint32_t magnitude = clamp_magnitude(bits ^ sign, kFloat16Max, overflow);
  std::uint32_t result = 0;
  if (magnitude >= (143U << 23)) {
    result = magnitude > kFloat32Infinity ? 0x7e00 : 0x7c00;
  } else if (magnitude < (113U << 23)) {  // subnormal: let a float addition round
    const std::uint32_t magic = 126U << 23;
    result = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) +
                                          std::bit_cast<float>(magic)) -
             magic;
  } else {
    const std::uint32_t odd = (magnitude >> 13) & 1U;
    result = (magnitude - (112U << 23) + 0xfffU + odd) >> 13;
  }
  return static_cast<std::uint16_t>(result | (sign >> 16));
}

/// Rounds to nearest even; NaN stays NaN (made quiet).
constexpr std::uint16_t f32_to_bf16(std::uint32_t bits, Overflow overflow) {
  const std::uint32_t sign = bits & 0x80000000U;
  const std::uint32_t magnitude = clamp_magnitude(bits ^ sign, kBfloat16Max, overflow);
  if (magnitude > kFloat32Infinity) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  }
  const std::uint32_t odd = (magnitude >> 16) & 1U;
  return static_cast<std::uint16_t>(((magnitude + 0x7fffU + odd) | sign) >> 16);
}

/// out[c * out_pitch + r] = in[r * in_pitch + c]; pitches in bytes.
template <typename T>
void transpose(const std::byte* in, std::byte* out, const TileShape& tile) {
  for (std::size_t c = 0; c < tile.columns; ++c) {
    for (std::size_t r = 0; r < tile.rows; ++r) {
      std::memcpy(out + c * tile.out_pitch + r * sizeof(T),
                  in + r * tile.in_pitch + c * sizeof(T),
                  sizeof(T));
    }
  }
}

}  // namespace onnxferry::kernels::scalar
