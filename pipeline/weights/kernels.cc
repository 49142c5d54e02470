// Included once per SIMD target by foreach_target.h; see "Highway" in README.md.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "pipeline/weights/kernels.cc"
#include "pipeline/weights/kernels.h"

#include <cstring>

#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "pipeline/weights/kernels_scalar.h"

HWY_BEFORE_NAMESPACE();
namespace onnxferry::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Lanes32 = hn::ScalableTag<std::int32_t>;
using Lanes16 = hn::Rebind<std::uint16_t, Lanes32>;
using Vec32 = hn::Vec<Lanes32>;
constexpr Lanes32 kD32;
constexpr Lanes16 kD16;
constexpr hn::RebindToFloat<Lanes32> kDf;

HWY_INLINE Vec32 bits(std::uint32_t value) {
  return hn::Set(kD32, static_cast<std::int32_t>(value));
}

// Element steps, all on float32 bits in 32-bit lanes. The scalar twins explain the arithmetic.

struct FromBf16 {
  HWY_INLINE static Vec32 widen(Vec32 v) { return hn::ShiftLeft<16>(v); }
};

struct FromF16 {
  HWY_INLINE static Vec32 widen(Vec32 v) {
    const Vec32 sign = hn::ShiftLeft<16>(hn::And(v, bits(0x8000)));
    const Vec32 magnitude = hn::ShiftLeft<13>(hn::And(v, bits(0x7fff)));
    const Vec32 exponent = hn::And(magnitude, bits(0x0f800000));
    const Vec32 normal = hn::Add(magnitude, bits(112U << 23));
    const Vec32 special = hn::Add(magnitude, bits(224U << 23));
    const Vec32 magic = bits(113U << 23);
    const Vec32 subnormal = hn::BitCast(
        kD32, hn::Sub(hn::BitCast(kDf, hn::Add(magnitude, magic)), hn::BitCast(kDf, magic)));
    const Vec32 finite = hn::IfThenElse(hn::Eq(exponent, hn::Zero(kD32)), subnormal, normal);
    return hn::Or(sign, hn::IfThenElse(hn::Eq(exponent, bits(0x0f800000)), special, finite));
  }
};

HWY_INLINE Vec32 clamp_magnitude(Vec32 magnitude, std::uint32_t largest, Overflow overflow) {
  if (overflow != Overflow::kClamp) {
    return magnitude;
  }
  const auto is_nan = hn::Gt(magnitude, bits(scalar::kFloat32Infinity));
  return hn::IfThenElse(is_nan, magnitude, hn::Min(magnitude, bits(largest)));
}

struct ToF16 {
  HWY_INLINE static Vec32 narrow(Vec32 v, Overflow overflow) {
    const Vec32 sign = hn::And(v, bits(0x80000000));
    const Vec32 magnitude = clamp_magnitude(hn::Xor(v, sign), scalar::kFloat16Max, overflow);
    const Vec32 magic = bits(126U << 23);
    const Vec32 subnormal = hn::Sub(
        hn::BitCast(kD32, hn::Add(hn::BitCast(kDf, magnitude), hn::BitCast(kDf, magic))), magic);
    const Vec32 odd = hn::And(hn::ShiftRight<13>(magnitude), bits(1));
    const Vec32 normal =
        hn::ShiftRight<13>(hn::Add(hn::Add(magnitude, bits(0xfffU - (112U << 23))), odd));
    const Vec32 finite = hn::IfThenElse(hn::Lt(magnitude, bits(113U << 23)), subnormal, normal);
    const Vec32 special = hn::IfThenElse(
        hn::Gt(magnitude, bits(scalar::kFloat32Infinity)), bits(0x7e00), bits(0x7c00));
    const Vec32 result = hn::IfThenElse(hn::Gt(magnitude, bits((143U << 23) - 1)), special, finite);
    return hn::Or(result, hn::And(hn::ShiftRight<16>(sign), bits(0x8000)));
  }
};

struct ToBf16 {
  HWY_INLINE static Vec32 narrow(Vec32 v, Overflow overflow) {
    const Vec32 sign = hn::And(v, bits(0x80000000));
    const Vec32 magnitude = clamp_magnitude(hn::Xor(v, sign), scalar::kBfloat16Max, overflow);
    const Vec32 odd = hn::And(hn::ShiftRight<16>(magnitude), bits(1));
    const Vec32 rounded = hn::Or(hn::Add(hn::Add(magnitude, bits(0x7fff)), odd), sign);
    const Vec32 quiet = hn::Or(v, bits(0x400000));
    const auto is_nan = hn::Gt(magnitude, bits(scalar::kFloat32Infinity));
    return hn::And(hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded)), bits(0xffff));
  }
};

HWY_INLINE Vec32 load_16(const std::uint16_t* from) {
  return hn::PromoteTo(kD32, hn::LoadU(kD16, from));
}

HWY_INLINE void store_16(Vec32 v, std::uint16_t* to) {
  hn::StoreU(hn::DemoteTo(kD16, v), kD16, to);
}

// Runs `step(in, out)` on whole vectors; the tail goes through a padded copy of itself, so there is
// no second version of the arithmetic.
template <typename In, typename Out, typename Step>
HWY_INLINE void for_each_vector(const std::byte* in,
                                std::byte* out,
                                std::size_t count,
                                const Step& step) {
  const std::size_t lanes = hn::Lanes(kD32);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    step(reinterpret_cast<const In*>(in + i * sizeof(In)),
         reinterpret_cast<Out*>(out + i * sizeof(Out)));
  }
  if (i < count) {
    HWY_ALIGN In in_tail[hn::MaxLanes(kD32)] = {};
    HWY_ALIGN Out out_tail[hn::MaxLanes(kD32)];
    std::memcpy(in_tail, in + i * sizeof(In), (count - i) * sizeof(In));
    step(in_tail, out_tail);
    std::memcpy(out + i * sizeof(Out), out_tail, (count - i) * sizeof(Out));
  }
}

template <typename From>
HWY_INLINE void widen(const std::byte* in, std::byte* out, std::size_t count) {
  for_each_vector<std::uint16_t, std::int32_t>(
      in, out, count, [](const std::uint16_t* from, std::int32_t* to) HWY_ATTR {
        hn::StoreU(From::widen(load_16(from)), kD32, to);
      });
}

template <typename To>
HWY_INLINE void narrow(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  for_each_vector<std::int32_t, std::uint16_t>(
      in, out, count, [overflow](const std::int32_t* from, std::uint16_t* to) HWY_ATTR {
        store_16(To::narrow(hn::LoadU(kD32, from), overflow), to);
      });
}

template <typename From, typename To>
HWY_INLINE void change(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  for_each_vector<std::uint16_t, std::uint16_t>(
      in, out, count, [overflow](const std::uint16_t* from, std::uint16_t* to) HWY_ATTR {
        store_16(To::narrow(From::widen(load_16(from)), overflow), to);
      });
}

void bf16_to_f32(const std::byte* in, std::byte* out, std::size_t count, Overflow /*overflow*/) {
  widen<FromBf16>(in, out, count);
}

void f16_to_f32(const std::byte* in, std::byte* out, std::size_t count, Overflow /*overflow*/) {
  widen<FromF16>(in, out, count);
}

void f32_to_f16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  narrow<ToF16>(in, out, count, overflow);
}

void f32_to_bf16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  narrow<ToBf16>(in, out, count, overflow);
}

void bf16_to_f16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  change<FromBf16, ToF16>(in, out, count, overflow);
}

void f16_to_bf16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  change<FromF16, ToBf16>(in, out, count, overflow);
}

#if HWY_TARGET == HWY_SCALAR  // no 128-bit vectors

void transpose_16(const std::byte* in, std::byte* out, const TileShape& tile) {
  scalar::transpose<std::uint16_t>(in, out, tile);
}

void transpose_32(const std::byte* in, std::byte* out, const TileShape& tile) {
  scalar::transpose<std::uint32_t>(in, out, tile);
}

#else

// Square blocks of one 128-bit vector a row. One stage zips vector i with vector i + n/2, which
// rotates the (row, column) index bits by one; after log2(n) stages rows and columns have swapped.

HWY_INLINE void transpose_block_16(const std::byte* in,
                                   std::byte* out,
                                   std::size_t in_pitch,
                                   std::size_t out_pitch) {
  const hn::CappedTag<std::uint16_t, 8> d;
  using V = hn::Vec<decltype(d)>;
  const auto row = [&](std::size_t i) HWY_ATTR {
    return hn::LoadU(d, reinterpret_cast<const std::uint16_t*>(in + i * in_pitch));
  };
  V a0 = row(0), a1 = row(1), a2 = row(2), a3 = row(3);
  V a4 = row(4), a5 = row(5), a6 = row(6), a7 = row(7);
  for (int stage = 0; stage < 3; ++stage) {
    const V b0 = hn::InterleaveLower(d, a0, a4), b1 = hn::InterleaveUpper(d, a0, a4);
    const V b2 = hn::InterleaveLower(d, a1, a5), b3 = hn::InterleaveUpper(d, a1, a5);
    const V b4 = hn::InterleaveLower(d, a2, a6), b5 = hn::InterleaveUpper(d, a2, a6);
    const V b6 = hn::InterleaveLower(d, a3, a7), b7 = hn::InterleaveUpper(d, a3, a7);
    a0 = b0, a1 = b1, a2 = b2, a3 = b3, a4 = b4, a5 = b5, a6 = b6, a7 = b7;
  }
  const auto put = [&](std::size_t i, V v) HWY_ATTR {
    hn::StoreU(v, d, reinterpret_cast<std::uint16_t*>(out + i * out_pitch));
  };
  put(0, a0), put(1, a1), put(2, a2), put(3, a3);
  put(4, a4), put(5, a5), put(6, a6), put(7, a7);
}

HWY_INLINE void transpose_block_32(const std::byte* in,
                                   std::byte* out,
                                   std::size_t in_pitch,
                                   std::size_t out_pitch) {
  const hn::CappedTag<std::uint32_t, 4> d;
  using V = hn::Vec<decltype(d)>;
  const auto row = [&](std::size_t i) HWY_ATTR {
    return hn::LoadU(d, reinterpret_cast<const std::uint32_t*>(in + i * in_pitch));
  };
  V a0 = row(0), a1 = row(1), a2 = row(2), a3 = row(3);
  for (int stage = 0; stage < 2; ++stage) {
    const V b0 = hn::InterleaveLower(d, a0, a2), b1 = hn::InterleaveUpper(d, a0, a2);
    const V b2 = hn::InterleaveLower(d, a1, a3), b3 = hn::InterleaveUpper(d, a1, a3);
    a0 = b0, a1 = b1, a2 = b2, a3 = b3;
  }
  const auto put = [&](std::size_t i, V v) HWY_ATTR {
    hn::StoreU(v, d, reinterpret_cast<std::uint32_t*>(out + i * out_pitch));
  };
  put(0, a0), put(1, a1), put(2, a2), put(3, a3);
}

// `block` transposes kSide x kSide elements; what is left over at the two edges goes one by one.
template <typename T, std::size_t kSide, typename Block>
HWY_INLINE void transpose_blocks(const std::byte* in,
                                 std::byte* out,
                                 const TileShape& tile,
                                 const Block& block) {
  const std::size_t rows = tile.rows - tile.rows % kSide;
  const std::size_t columns = tile.columns - tile.columns % kSide;
  for (std::size_t r = 0; r < rows; r += kSide) {
    // Rows are too far apart for the processor to see the pattern by itself.
    if (r + 3 * kSide <= rows) {
      for (std::size_t i = 2 * kSide; i < 3 * kSide; ++i) {
        const std::byte* const ahead = in + (r + i) * tile.in_pitch;
        hwy::Prefetch(ahead);
        hwy::Prefetch(ahead + tile.columns * sizeof(T) - 1);
      }
    }
    for (std::size_t c = 0; c < columns; c += kSide) {
      block(in + r * tile.in_pitch + c * sizeof(T),
            out + c * tile.out_pitch + r * sizeof(T),
            tile.in_pitch,
            tile.out_pitch);
    }
  }
  TileShape right = tile;
  right.columns = tile.columns - columns;
  scalar::transpose<T>(in + columns * sizeof(T), out + columns * tile.out_pitch, right);
  TileShape bottom = tile;
  bottom.rows = tile.rows - rows;
  bottom.columns = columns;
  scalar::transpose<T>(in + rows * tile.in_pitch, out + rows * sizeof(T), bottom);
}

void transpose_16(const std::byte* in, std::byte* out, const TileShape& tile) {
  transpose_blocks<std::uint16_t, 8>(in, out, tile, transpose_block_16);
}

void transpose_32(const std::byte* in, std::byte* out, const TileShape& tile) {
  transpose_blocks<std::uint32_t, 4>(in, out, tile, transpose_block_32);
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace onnxferry::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace onnxferry::kernels {
namespace {

HWY_EXPORT(bf16_to_f32);
HWY_EXPORT(f16_to_f32);
HWY_EXPORT(f32_to_f16);
HWY_EXPORT(f32_to_bf16);
HWY_EXPORT(bf16_to_f16);
HWY_EXPORT(f16_to_bf16);
HWY_EXPORT(transpose_16);
HWY_EXPORT(transpose_32);

}  // namespace

void bf16_to_f32(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  HWY_DYNAMIC_DISPATCH(bf16_to_f32)(in, out, count, overflow);
}

void f16_to_f32(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  HWY_DYNAMIC_DISPATCH(f16_to_f32)(in, out, count, overflow);
}

void f32_to_f16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  HWY_DYNAMIC_DISPATCH(f32_to_f16)(in, out, count, overflow);
}

void f32_to_bf16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  HWY_DYNAMIC_DISPATCH(f32_to_bf16)(in, out, count, overflow);
}

void bf16_to_f16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  HWY_DYNAMIC_DISPATCH(bf16_to_f16)(in, out, count, overflow);
}

void f16_to_bf16(const std::byte* in, std::byte* out, std::size_t count, Overflow overflow) {
  HWY_DYNAMIC_DISPATCH(f16_to_bf16)(in, out, count, overflow);
}

void transpose_16(const std::byte* in, std::byte* out, const TileShape& tile) {
  HWY_DYNAMIC_DISPATCH(transpose_16)(in, out, tile);
}

void transpose_32(const std::byte* in, std::byte* out, const TileShape& tile) {
  HWY_DYNAMIC_DISPATCH(transpose_32)(in, out, tile);
}

}  // namespace onnxferry::kernels
#endif  // HWY_ONCE
