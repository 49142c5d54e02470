#include "pipeline/weights/convert.h"

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "pipeline/weights/kernels_scalar.h"

namespace onnxferry {
namespace {

using kernels::ConvertFunction;
using kernels::Overflow;
namespace scalar = kernels::scalar;

// How an element of each dtype is stored, and its value as a C++ number.

template <typename T>
struct Plain {
  using Stored = T;
  static T value(T stored) { return stored; }
};

struct Float16 {
  using Stored = std::uint16_t;
  static double value(Stored bits) { return std::bit_cast<float>(scalar::f16_to_f32(bits)); }
};

struct Bfloat16 {
  using Stored = std::uint16_t;
  static double value(Stored bits) { return std::bit_cast<float>(scalar::bf16_to_f32(bits)); }
};

struct Float8E5M2 {  // the upper half of a float16
  using Stored = std::uint8_t;
  static double value(Stored bits) {
    return Float16::value(static_cast<std::uint16_t>(static_cast<unsigned>(bits) << 8));
  }
};

struct Float8E4M3 {  // bias 7, no infinity, NaN is all ones. Source: ONNX float8e4m3fn
  using Stored = std::uint8_t;
  static double value(Stored bits) {
    const int exponent = (bits >> 3) & 0xf;
    const int mantissa = bits & 7;
    double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    if ((bits & 0x7f) == 0x7f) {
      magnitude = std::numeric_limits<double>::quiet_NaN();
    }
    return (bits & 0x80) != 0 ? -magnitude : magnitude;
  }
};

/// Round to float32 so that a second rounding to fewer bits gives what one rounding would have
/// given (round to odd). Source: S. Boldo, G. Melquiond, "Emulation of a FMA".
float round_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || std::isnan(value) || std::isinf(nearest)) {
    return nearest;
  }
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) {
    --bits;  // towards zero
  }
  return std::bit_cast<float>(bits | 1U);
}

template <std::floating_point To>
struct ToFloat {
  using Stored = To;
  template <typename Number>
  static To make(Number value, Overflow overflow) {
    const auto result = static_cast<To>(value);
    if constexpr (std::same_as<To, float> && std::same_as<Number, double>) {
      if (overflow == Overflow::kClamp && std::isinf(result)) {
        return std::copysign(std::numeric_limits<float>::max(), result);
      }
    }
    return result;
  }
};

template <std::uint16_t (*kNarrow)(std::uint32_t, Overflow)>
struct ToHalf {
  using Stored = std::uint16_t;
  template <typename Number>
  static Stored make(Number value, Overflow overflow) {
    const float rounded = round_to_odd(static_cast<double>(value));
    return kNarrow(std::bit_cast<std::uint32_t>(rounded), overflow);
  }
};

template <std::integral To>
struct ToInteger {
  using Stored = To;
  template <std::integral Number>
  static To make(Number value, Overflow overflow) {
    if (overflow == Overflow::kClamp && !std::in_range<To>(value)) {
      return std::cmp_less(value, 0) ? std::numeric_limits<To>::min()
                                     : std::numeric_limits<To>::max();
    }
    return static_cast<To>(value);
  }
};

template <typename From, typename To>
void convert_each(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  using In = typename From::Stored;
  using Out = typename To::Stored;
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = From::value(scalar::load<In>(in + i * sizeof(In)));
    scalar::store<Out>(out + i * sizeof(Out), To::make(value, overflow));
  }
}

template <typename From>
ConvertFunction to_float_target(Dtype to) {
  switch (to) {
    case Dtype::kFloat16:
      return convert_each<From, ToHalf<scalar::f32_to_f16>>;
    case Dtype::kBFloat16:
      return convert_each<From, ToHalf<scalar::f32_to_bf16>>;
    case Dtype::kFloat32:
      return convert_each<From, ToFloat<float>>;
    case Dtype::kFloat64:
      return convert_each<From, ToFloat<double>>;
    default:
      return nullptr;
  }
}

template <typename From>
ConvertFunction to_any_target(Dtype to) {
  switch (to) {
    case Dtype::kUint8:
      return convert_each<From, ToInteger<std::uint8_t>>;
    case Dtype::kInt8:
      return convert_each<From, ToInteger<std::int8_t>>;
    case Dtype::kUint16:
      return convert_each<From, ToInteger<std::uint16_t>>;
    case Dtype::kInt16:
      return convert_each<From, ToInteger<std::int16_t>>;
    case Dtype::kUint32:
      return convert_each<From, ToInteger<std::uint32_t>>;
    case Dtype::kInt32:
      return convert_each<From, ToInteger<std::int32_t>>;
    case Dtype::kUint64:
      return convert_each<From, ToInteger<std::uint64_t>>;
    case Dtype::kInt64:
      return convert_each<From, ToInteger<std::int64_t>>;
    default:
      return to_float_target<From>(to);
  }
}

ConvertFunction find_plain(Dtype from, Dtype to) {
  switch (from) {
    case Dtype::kBool:
    case Dtype::kUint8:
      return to_any_target<Plain<std::uint8_t>>(to);
    case Dtype::kInt8:
      return to_any_target<Plain<std::int8_t>>(to);
    case Dtype::kUint16:
      return to_any_target<Plain<std::uint16_t>>(to);
    case Dtype::kInt16:
      return to_any_target<Plain<std::int16_t>>(to);
    case Dtype::kUint32:
      return to_any_target<Plain<std::uint32_t>>(to);
    case Dtype::kInt32:
      return to_any_target<Plain<std::int32_t>>(to);
    case Dtype::kUint64:
      return to_any_target<Plain<std::uint64_t>>(to);
    case Dtype::kInt64:
      return to_any_target<Plain<std::int64_t>>(to);
    case Dtype::kFloat16:
      return to_float_target<Float16>(to);
    case Dtype::kBFloat16:
      return to_float_target<Bfloat16>(to);
    case Dtype::kFloat32:
      return to_float_target<Plain<float>>(to);
    case Dtype::kFloat64:
      return to_float_target<Plain<double>>(to);
    case Dtype::kFloat8E4M3:
      return to_float_target<Float8E4M3>(to);
    case Dtype::kFloat8E5M2:
      return to_float_target<Float8E5M2>(to);
  }
  return nullptr;
}

template <std::size_t kBytes>
void copy(const std::byte* in, std::byte* out, std::size_t count, Overflow /*overflow*/) {
  std::memcpy(out, in, count * kBytes);
}

ConvertFunction find_copy(std::size_t bytes) {
  switch (bytes) {
    case 1:
      return copy<1>;
    case 2:
      return copy<2>;
    case 4:
      return copy<4>;
    default:
      return copy<8>;
  }
}

struct Kernel {
  Dtype from;
  Dtype to;
  ConvertFunction convert;
};

constexpr Kernel kKernels[] = {
    {Dtype::kBFloat16, Dtype::kFloat32, kernels::bf16_to_f32},
    {Dtype::kFloat16, Dtype::kFloat32, kernels::f16_to_f32},
    {Dtype::kFloat32, Dtype::kFloat16, kernels::f32_to_f16},
    {Dtype::kFloat32, Dtype::kBFloat16, kernels::f32_to_bf16},
    {Dtype::kBFloat16, Dtype::kFloat16, kernels::bf16_to_f16},
    {Dtype::kFloat16, Dtype::kBFloat16, kernels::f16_to_bf16},
};

struct Range {
  double lowest;
  double largest;
};

template <typename T>
Range range_of() {
  return {static_cast<double>(std::numeric_limits<T>::lowest()),
          static_cast<double>(std::numeric_limits<T>::max())};
}

Range range_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kBool:
      return {0, 1};
    case Dtype::kUint8:
      return range_of<std::uint8_t>();
    case Dtype::kInt8:
      return range_of<std::int8_t>();
    case Dtype::kUint16:
      return range_of<std::uint16_t>();
    case Dtype::kInt16:
      return range_of<std::int16_t>();
    case Dtype::kUint32:
      return range_of<std::uint32_t>();
    case Dtype::kInt32:
      return range_of<std::int32_t>();
    case Dtype::kUint64:
      return range_of<std::uint64_t>();
    case Dtype::kInt64:
      return range_of<std::int64_t>();
    case Dtype::kFloat8E4M3:
      return {-448, 448};
    case Dtype::kFloat8E5M2:
      return {-57344, 57344};
    case Dtype::kFloat16:
      return {-65504, 65504};
    case Dtype::kBFloat16: {
      const double largest = std::bit_cast<float>(scalar::kBfloat16Max);
      return {-largest, largest};
    }
    case Dtype::kFloat32:
      return range_of<float>();
    case Dtype::kFloat64:
      return range_of<double>();
  }
  return {0, 0};
}

}  // namespace

bool has_wider_range(Dtype from, Dtype to) {
  const Range source = range_of(from);
  const Range target = range_of(to);
  return source.lowest < target.lowest || source.largest > target.largest;
}

kernels::ConvertFunction find_convert(Dtype from, Dtype to) {
  if (from == to) {
    return find_copy(item_bytes(from));
  }
  for (const Kernel& kernel : kKernels) {
    if (kernel.from == from && kernel.to == to) {
      return kernel.convert;
    }
  }
  return find_plain(from, to);
}

}  // namespace onnxferry
