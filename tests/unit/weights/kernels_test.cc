#include "pipeline/weights/kernels.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <hwy/highway.h>

#include "pipeline/weights/kernels_scalar.h"

namespace onnxferry::kernels {
namespace {

using Bytes = std::vector<std::byte>;

/// Every SIMD target of this build that this processor has; the parameter is Highway's bit.
class Kernels : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().Update(GetParam());
  }
  void TearDown() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }
};

std::vector<std::int64_t> targets() {
  return hwy::SupportedAndGeneratedTargets();
}

INSTANTIATE_TEST_SUITE_P(Target, Kernels, testing::ValuesIn(targets()), [](const auto& target) {
  return std::string(hwy::TargetName(target.param));
});

template <typename T>
Bytes to_bytes(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<std::uint16_t> all_16_bit_values() {
  std::vector<std::uint16_t> values(65536);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::uint16_t>(i);
  }
  return values;
}

/// Every upper half with the lower halves where rounding decides, plus random ones.
std::vector<std::uint32_t> float32_samples() {
  std::vector<std::uint32_t> values;
  std::mt19937 random(7);
  for (std::uint32_t upper = 0; upper < 65536; ++upper) {
    for (const std::uint32_t lower : {0x0000U,
                                      0x0001U,
                                      0x0fffU,
                                      0x1000U,
                                      0x1001U,
                                      0x2000U,
                                      0x3000U,
                                      0x7fffU,
                                      0x8000U,
                                      0x8001U,
                                      0xf000U,
                                      0xffffU}) {
      values.push_back(upper << 16 | lower);
    }
    values.push_back(upper << 16 | (random() & 0xffffU));
  }
  return values;
}

float as_float(std::uint32_t bits) {
  return std::bit_cast<float>(bits);
}

/// Same bits, or both NaN: payloads are free.
void expect_same_32(std::uint32_t actual, std::uint32_t expected, std::uint32_t input) {
  if (std::isnan(as_float(expected))) {
    ASSERT_TRUE(std::isnan(as_float(actual))) << std::hex << input;
  } else {
    ASSERT_EQ(actual, expected) << std::hex << input;
  }
}

template <typename In, typename Out>
std::vector<Out> run(ConvertFunction convert, const std::vector<In>& in, Overflow overflow) {
  std::vector<Out> out(in.size());
  convert(reinterpret_cast<const std::byte*>(in.data()),
          reinterpret_cast<std::byte*>(out.data()),
          in.size(),
          overflow);
  return out;
}

/// The value of a small float format by its definition, sharing nothing with the code under test.
double decode(std::uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  double magnitude = 0;
  if (exponent == (1 << exponent_bits) - 1) {
    magnitude = mantissa == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    magnitude = std::ldexp(mantissa, 1 - bias - mantissa_bits);
  } else {
    magnitude = std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
  }
  return (bits & 0x8000U) != 0 ? -magnitude : magnitude;
}

/// The nearest value of a small float format, ties to even, by division in double.
double round_to(double value, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (!std::isfinite(value) || value == 0) {
    return value;
  }
  const int exponent = std::max(std::ilogb(value), 1 - bias);
  const double unit = std::ldexp(1.0, exponent - mantissa_bits);
  const double rounded = std::nearbyint(value / unit) * unit;
  return std::fabs(rounded) >= std::ldexp(1.0, bias + 1) ? std::copysign(INFINITY, value) : rounded;
}

TEST(ScalarKernels, WidenEvery16BitValueExactly) {
  for (const std::uint16_t bits : all_16_bit_values()) {
    const double f16 = decode(bits, 5, 10);
    const double bf16 = decode(bits, 8, 7);
    const float f16_actual = as_float(scalar::f16_to_f32(bits));
    const float bf16_actual = as_float(scalar::bf16_to_f32(bits));
    ASSERT_EQ(std::isnan(f16_actual), std::isnan(f16)) << bits;
    ASSERT_EQ(std::isnan(bf16_actual), std::isnan(bf16)) << bits;
    ASSERT_TRUE(std::isnan(f16) || f16_actual == f16) << bits;
    ASSERT_TRUE(std::isnan(bf16) || bf16_actual == bf16) << bits;
    ASSERT_EQ(std::signbit(f16_actual), (bits & 0x8000U) != 0) << bits;
  }
}

TEST(ScalarKernels, NarrowToTheNearestEvenValue) {
  for (const std::uint32_t bits : float32_samples()) {
    const float value = as_float(bits);
    const double f16 = decode(scalar::f32_to_f16(bits, Overflow::kToInfinity), 5, 10);
    const double bf16 = decode(scalar::f32_to_bf16(bits, Overflow::kToInfinity), 8, 7);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(f16) && std::isnan(bf16)) << std::hex << bits;
      continue;
    }
    ASSERT_EQ(f16, round_to(value, 5, 10)) << std::hex << bits;
    ASSERT_EQ(bf16, round_to(value, 8, 7)) << std::hex << bits;
    ASSERT_EQ(std::signbit(f16), std::signbit(value)) << std::hex << bits;
    ASSERT_EQ(std::signbit(bf16), std::signbit(value)) << std::hex << bits;
  }
}

TEST(ScalarKernels, ClampKeepsSignAndNan) {
  const auto clamp_f16 = [](float value) {
    return decode(scalar::f32_to_f16(std::bit_cast<std::uint32_t>(value), Overflow::kClamp), 5, 10);
  };
  EXPECT_EQ(clamp_f16(65504), 65504);
  EXPECT_EQ(clamp_f16(65519), 65504);
  EXPECT_EQ(clamp_f16(65520), 65504);  // would round to infinity
  EXPECT_EQ(clamp_f16(-1e30F), -65504);
  EXPECT_EQ(clamp_f16(INFINITY), 65504);
  EXPECT_EQ(clamp_f16(-INFINITY), -65504);
  EXPECT_TRUE(std::isnan(clamp_f16(NAN)));
  EXPECT_EQ(decode(scalar::f32_to_bf16(0x7f7fffff, Overflow::kClamp), 8, 7),
            double{as_float(0x7f7f0000)});
}

TEST_P(Kernels, WidenLikeScalar) {
  const std::vector<std::uint16_t> in = all_16_bit_values();
  const auto f16 = run<std::uint16_t, std::uint32_t>(f16_to_f32, in, Overflow::kToInfinity);
  const auto bf16 = run<std::uint16_t, std::uint32_t>(bf16_to_f32, in, Overflow::kToInfinity);
  for (std::size_t i = 0; i < in.size(); ++i) {
    expect_same_32(f16[i], scalar::f16_to_f32(in[i]), in[i]);
    expect_same_32(bf16[i], scalar::bf16_to_f32(in[i]), in[i]);
  }
}

TEST_P(Kernels, NarrowLikeScalar) {
  const std::vector<std::uint32_t> in = float32_samples();
  for (const Overflow overflow : {Overflow::kToInfinity, Overflow::kClamp}) {
    const auto f16 = run<std::uint32_t, std::uint16_t>(f32_to_f16, in, overflow);
    const auto bf16 = run<std::uint32_t, std::uint16_t>(f32_to_bf16, in, overflow);
    for (std::size_t i = 0; i < in.size(); ++i) {
      ASSERT_EQ(f16[i], scalar::f32_to_f16(in[i], overflow)) << std::hex << in[i];
      ASSERT_EQ(bf16[i], scalar::f32_to_bf16(in[i], overflow)) << std::hex << in[i];
    }
  }
}

TEST_P(Kernels, ChangeBetween16BitFormatsLikeScalar) {
  const std::vector<std::uint16_t> in = all_16_bit_values();
  for (const Overflow overflow : {Overflow::kToInfinity, Overflow::kClamp}) {
    const auto f16 = run<std::uint16_t, std::uint16_t>(bf16_to_f16, in, overflow);
    const auto bf16 = run<std::uint16_t, std::uint16_t>(f16_to_bf16, in, overflow);
    for (std::size_t i = 0; i < in.size(); ++i) {
      ASSERT_EQ(f16[i], scalar::f32_to_f16(scalar::bf16_to_f32(in[i]), overflow)) << in[i];
      ASSERT_EQ(bf16[i], scalar::f32_to_bf16(scalar::f16_to_f32(in[i]), overflow)) << in[i];
    }
  }
}

TEST_P(Kernels, TakeAnySizeAndAlignmentAndStayInside) {
  struct Case {
    ConvertFunction convert;
    std::size_t in_bytes;
    std::size_t out_bytes;
  };
  const std::vector<Case> cases = {{bf16_to_f32, 2, 4},
                                   {f16_to_f32, 2, 4},
                                   {f32_to_f16, 4, 2},
                                   {f32_to_bf16, 4, 2},
                                   {bf16_to_f16, 2, 2},
                                   {f16_to_bf16, 2, 2}};
  std::mt19937 random(3);
  for (const Case& each : cases) {
    for (std::size_t count = 0; count <= 37; ++count) {
      Bytes in(1 + 37 * each.in_bytes);
      for (std::byte& byte : in) {
        byte = static_cast<std::byte>(random() & 0xffU);
      }
      const std::byte guard{0xa5};
      Bytes out(3 + 38 * each.out_bytes, guard);
      each.convert(in.data() + 1, out.data() + 3, count, Overflow::kToInfinity);
      Bytes one(each.out_bytes);
      for (std::size_t i = 0; i < count; ++i) {
        each.convert(in.data() + 1 + i * each.in_bytes, one.data(), 1, Overflow::kToInfinity);
        ASSERT_EQ(std::memcmp(one.data(), out.data() + 3 + i * each.out_bytes, one.size()), 0);
      }
      for (std::size_t i = 0; i < out.size(); ++i) {
        const bool is_written = i >= 3 && i < 3 + count * each.out_bytes;
        ASSERT_TRUE(is_written || out[i] == guard) << "wrote outside at " << i;
      }
    }
  }
}

template <typename T>
void check_transpose(void (*transpose)(const std::byte*, std::byte*, const TileShape&),
                     std::size_t rows,
                     std::size_t columns) {
  std::vector<T> in((rows + 1) * (columns + 3));
  std::iota(in.begin(), in.end(), T{0});
  const std::size_t in_pitch = (columns + 3) * sizeof(T);
  const std::size_t out_pitch = (rows + 1) * sizeof(T) + 1;  // never aligned
  Bytes source(1);
  const Bytes values = to_bytes(in);
  source.insert(source.end(), values.begin(), values.end());
  Bytes out(columns * out_pitch + 1, std::byte{0xa5});
  transpose(source.data() + 1, out.data() + 1, {rows, columns, in_pitch, out_pitch});
  Bytes expected(out.size(), std::byte{0xa5});
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      std::memcpy(expected.data() + 1 + c * out_pitch + r * sizeof(T),
                  &in[r * (columns + 3) + c],
                  sizeof(T));
    }
  }
  ASSERT_EQ(out, expected) << rows << " x " << columns;
}

TEST_P(Kernels, TransposeMovesEveryElementAndNothingElse) {
  for (const std::size_t rows : {0, 1, 3, 4, 7, 8, 16, 37}) {
    for (const std::size_t columns : {0, 1, 4, 5, 8, 32, 37}) {
      check_transpose<std::uint16_t>(transpose_16, rows, columns);
      check_transpose<std::uint32_t>(transpose_32, rows, columns);
    }
  }
}

TEST(KernelTargets, MoreThanTheBaselineIsTested) {
#if HWY_ARCH_X86
  EXPECT_GE(targets().size(), 2U) << "run on a processor with AVX2 to test what ships";
#endif
}

}  // namespace
}  // namespace onnxferry::kernels
