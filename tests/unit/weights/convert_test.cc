#include "pipeline/weights/convert.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace onnxferry {
namespace {

using kernels::Overflow;

template <typename Out, typename In>
Out convert(Dtype from, In value, Dtype to, Overflow overflow = Overflow::kToInfinity) {
  Out out{};
  const kernels::ConvertFunction function = find_convert(from, to);
  EXPECT_NE(function, nullptr);
  function(
      reinterpret_cast<const std::byte*>(&value), reinterpret_cast<std::byte*>(&out), 1, overflow);
  return out;
}

std::uint16_t f64_to_f16(double value) {
  return convert<std::uint16_t>(Dtype::kFloat64, value, Dtype::kFloat16);
}

TEST(Convert, Float64RoundsOnceNotTwice) {
  // 1 + 2^-11 is halfway between two float16; a bit more must round up, also when float32 cannot
  // hold that bit.
  EXPECT_EQ(f64_to_f16(1 + std::ldexp(1, -11)), 0x3c00);
  EXPECT_EQ(f64_to_f16(1 + std::ldexp(1, -11) + std::ldexp(1, -40)), 0x3c01);
  EXPECT_EQ(f64_to_f16(1 + 3 * std::ldexp(1, -11) - std::ldexp(1, -40)), 0x3c01);
  EXPECT_EQ(f64_to_f16(-(1 + std::ldexp(1, -11) + std::ldexp(1, -40))), 0xbc01);
  EXPECT_EQ(f64_to_f16(1e-300), 0);
  EXPECT_EQ(f64_to_f16(-1e300), 0xfc00);
  EXPECT_EQ(convert<std::uint16_t>(
                Dtype::kFloat64, 1 + std::ldexp(1, -8) + std::ldexp(1, -50), Dtype::kBFloat16),
            0x3f81);
}

TEST(Convert, Float64ClampsToFloat32Range) {
  EXPECT_TRUE(std::isinf(convert<float>(Dtype::kFloat64, 1e300, Dtype::kFloat32)));
  EXPECT_EQ(convert<float>(Dtype::kFloat64, -1e300, Dtype::kFloat32, Overflow::kClamp),
            std::numeric_limits<float>::lowest());
}

TEST(Convert, IntegersWrapOrSaturate) {
  const std::int64_t big = (std::int64_t{1} << 32) + 5;
  EXPECT_EQ(convert<std::int32_t>(Dtype::kInt64, big, Dtype::kInt32), 5);
  EXPECT_EQ(convert<std::int32_t>(Dtype::kInt64, big, Dtype::kInt32, Overflow::kClamp),
            std::numeric_limits<std::int32_t>::max());
  EXPECT_EQ(convert<std::uint8_t>(Dtype::kInt64, std::int64_t{-3}, Dtype::kUint8, Overflow::kClamp),
            0);
  EXPECT_EQ(convert<std::int64_t>(Dtype::kInt32, std::int32_t{-7}, Dtype::kInt64), -7);
  EXPECT_EQ(convert<std::int64_t>(Dtype::kBool, std::uint8_t{1}, Dtype::kInt64), 1);
  EXPECT_EQ(convert<float>(Dtype::kInt64, std::int64_t{16777217}, Dtype::kFloat32), 16777216.0F);
  EXPECT_EQ(convert<std::uint16_t>(Dtype::kInt32, std::int32_t{70000}, Dtype::kFloat16), 0x7c00);
}

TEST(Convert, ReadsEightBitFloats) {
  const auto e4m3 = [](std::uint8_t bits) {
    return convert<float>(Dtype::kFloat8E4M3, bits, Dtype::kFloat32);
  };
  const auto e5m2 = [](std::uint8_t bits) {
    return convert<float>(Dtype::kFloat8E5M2, bits, Dtype::kFloat32);
  };
  EXPECT_EQ(e4m3(0x7e), 448);
  EXPECT_EQ(e4m3(0xb8), -1);
  EXPECT_EQ(e4m3(0x01), std::ldexp(1.0F, -9));
  EXPECT_TRUE(std::isnan(e4m3(0xff)));
  EXPECT_EQ(e5m2(0x7b), 57344);
  EXPECT_EQ(e5m2(0xbc), -1);
  EXPECT_TRUE(std::isinf(e5m2(0x7c)));
}

TEST(Convert, OffersNothingLossyThatNobodyAskedFor) {
  EXPECT_EQ(find_convert(Dtype::kFloat32, Dtype::kInt64), nullptr);
  EXPECT_EQ(find_convert(Dtype::kFloat32, Dtype::kFloat8E4M3), nullptr);
  EXPECT_EQ(find_convert(Dtype::kInt64, Dtype::kBool), nullptr);
}

TEST(Convert, KnowsWhereTheRangeShrinks) {
  EXPECT_TRUE(has_wider_range(Dtype::kBFloat16, Dtype::kFloat16));
  EXPECT_TRUE(has_wider_range(Dtype::kFloat32, Dtype::kBFloat16));
  EXPECT_TRUE(has_wider_range(Dtype::kInt8, Dtype::kUint8));
  EXPECT_FALSE(has_wider_range(Dtype::kFloat16, Dtype::kBFloat16));
  EXPECT_FALSE(has_wider_range(Dtype::kBFloat16, Dtype::kFloat32));
  EXPECT_FALSE(has_wider_range(Dtype::kUint8, Dtype::kInt64));
}

}  // namespace
}  // namespace onnxferry
