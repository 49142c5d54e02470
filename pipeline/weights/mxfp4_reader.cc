// Experts stored in MXFP4, as gpt-oss publishes them: 4-bit floats in blocks of 32 along a row,
// each block with a power of two. The graph wants the matrix transposed and in float.
//
// As in transpose_reader.cc the stored matrix is taken in strips of columns that fit in memory, one
// strip for most. Two neighbouring columns share their bytes and 32 their scales, so the strip is
// walked column by column: what one column brings into the cache the next ones find there.

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "pipeline/error.h"
#include "pipeline/weights/readers.h"

namespace onnxferry {
namespace {

constexpr std::size_t kBlockColumns = 32;
constexpr std::size_t kBlockBytes = 16;

constexpr std::array<float, 16> kValues = {0.0F,
                                           0.5F,
                                           1.0F,
                                           1.5F,
                                           2.0F,
                                           3.0F,
                                           4.0F,
                                           6.0F,
                                           -0.0F,
                                           -0.5F,
                                           -1.0F,
                                           -1.5F,
                                           -2.0F,
                                           -3.0F,
                                           -4.0F,
                                           -6.0F};

/// 2^(stored - 127); 255 is infinity, which transformers multiplies with, too.
constexpr std::array<float, 256> make_scales() {
  constexpr std::uint32_t kMantissaBits = 23;
  std::array<float, 256> scales{};
  for (std::uint32_t stored = 0; stored < scales.size(); ++stored) {
    // 2^-127 is the one that is no normal float32.
    const std::uint32_t bits = stored == 0 ? 1U << (kMantissaBits - 1) : stored << kMantissaBits;
    scales.at(stored) = std::bit_cast<float>(bits);
  }
  return scales;
}
constexpr std::array<float, 256> kScales = make_scales();

/// Columns [first, first + count) of a 2-d view.
RecipeNode columns_of(const RecipeNode& view, std::size_t first, std::size_t count) {
  RecipeNode part = view;
  part.view_offset += static_cast<std::int64_t>(first) * view.strides[1];
  part.shape[1] = static_cast<std::int64_t>(count);
  return part;
}

class Mxfp4Reader : public Reader {
 public:
  Mxfp4Reader(const RecipeNode& node, const EvaluationContext& context)
      : blocks_(*node.inputs.at(0)),
        scales_(*node.inputs.at(1)),
        context_(context),
        rows_(static_cast<std::size_t>(node.shape.at(1))),
        block_count_(static_cast<std::size_t>(scales_.shape.at(1))),
        strip_blocks_(std::clamp<std::size_t>(
            context.limits.strip_bytes / (std::max<std::size_t>(rows_, 1) * (kBlockBytes + 1)),
            1,
            std::max<std::size_t>(block_count_, 1))),
        memory_(context.pool, rows_ * strip_blocks_ * (kBlockBytes + 1)) {}

  void read(std::span<std::byte> out) override {
    while (!out.empty()) {
      if (column_ == strip_end_ * kBlockColumns) {
        load_strip();
      }
      const std::size_t count = std::min(rows_ - row_, out.size() / sizeof(float));
      decode(count, out.data());
      out = out.subspan(count * sizeof(float));
      row_ += count;
      column_ += row_ / rows_;
      row_ %= rows_;
    }
  }

 private:
  /// The next strip: its blocks [rows, 16 · blocks], behind them its scales [rows, blocks].
  void load_strip() {
    strip_begin_ = strip_end_;
    const std::size_t count = std::min(strip_blocks_, block_count_ - strip_begin_);
    strip_end_ = strip_begin_ + count;
    const std::size_t bytes = rows_ * count * kBlockBytes;
    const RecipeNode blocks = columns_of(blocks_, strip_begin_ * kBlockBytes, count * kBlockBytes);
    make_view_reader(blocks, context_)->read(memory_.bytes().first(bytes));
    const RecipeNode scales = columns_of(scales_, strip_begin_, count);
    make_view_reader(scales, context_)->read(memory_.bytes().subspan(bytes, rows_ * count));
  }

  /// `count` rows of the current column, from the current row on.
  void decode(std::size_t count, std::byte* out) const {
    const std::size_t width = strip_end_ - strip_begin_;
    const std::size_t block = column_ / kBlockColumns - strip_begin_;
    const std::size_t in_block = column_ % kBlockColumns;
    const int shift = in_block % 2 == 0 ? 0 : 4;
    const auto* const memory = memory_.bytes().data();
    const auto* packed = memory + (row_ * width + block) * kBlockBytes + in_block / 2;
    const auto* scale = memory + rows_ * width * kBlockBytes + row_ * width + block;
    for (std::size_t i = 0; i < count; ++i) {
      const auto value = std::to_integer<std::size_t>((*packed >> shift) & std::byte{0xF});
      const float result = kValues[value] * kScales[std::to_integer<std::size_t>(*scale)];
      std::memcpy(out + i * sizeof(float), &result, sizeof(float));
      packed += width * kBlockBytes;
      scale += width;
    }
  }

  const RecipeNode& blocks_;
  const RecipeNode& scales_;
  EvaluationContext context_;
  std::size_t rows_;
  std::size_t block_count_;
  std::size_t strip_blocks_;
  BufferPool::Loan memory_;
  std::size_t strip_begin_ = 0, strip_end_ = 0;  // blocks
  std::size_t row_ = 0, column_ = 0;             // of the stored matrix; the next element
};

}  // namespace

std::unique_ptr<Reader> make_mxfp4_reader(const RecipeNode& node,
                                          const EvaluationContext& context) {
  return std::make_unique<Mxfp4Reader>(node, context);
}

}  // namespace onnxferry
