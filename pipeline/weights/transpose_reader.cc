// Every Linear weight comes through here: [out, in] in the checkpoint, [in, out] in the graph.
//
// The output is wanted front to back, that is column by column of the stored matrix. So the matrix
// is taken in strips of columns that fit in memory (one strip, for most), and a strip is transposed
// tile by tile: 64 bytes of 256 rows, so that every cache line of the strip is read once, into a
// tile that stays in the first-level cache, and from there converted into the output.

#include <algorithm>
#include <cstring>

#include "pipeline/error.h"
#include "pipeline/weights/kernels_scalar.h"
#include "pipeline/weights/readers.h"
#include "pipeline/weights/view_layout.h"

namespace onnxferry {
namespace {

using TransposeFunction = void (*)(const std::byte* in,
                                   std::byte* out,
                                   const kernels::TileShape& tile);

constexpr std::size_t kLine = 64;  // bytes of one stored row in a tile
constexpr std::size_t kTileRows = 256;
// One read costs about as much as copying this much: a smaller gap is read along with the rest.
constexpr std::int64_t kGapWorthReading = 4096;
constexpr std::size_t kChunk = std::size_t{1} << 20;

TransposeFunction find_transpose(std::size_t item) {
  switch (item) {
    case 1:
      return kernels::scalar::transpose<std::uint8_t>;
    case 2:
      return kernels::transpose_16;
    case 4:
      return kernels::transpose_32;
    default:
      return kernels::scalar::transpose<std::uint64_t>;
  }
}

/// A rectangle of the stored matrix.
struct Area {
  std::size_t first_column = 0;
  std::size_t columns = 0;
  std::size_t first_row = 0;
  std::size_t rows = 0;
};

class TransposeReader : public Reader {
 public:
  TransposeReader(const RecipeNode& view, TargetType target, const EvaluationContext& context)
      : tensor_(*view.tensor),
        context_(context),
        offset_(static_cast<std::size_t>(view.view_offset)),
        item_(item_bytes(view.dtype)),
        out_item_(item_bytes(target.dtype)),
        transpose_(find_transpose(item_)),
        convert_(find_convert(view.dtype, target.dtype)),
        target_(target),
        is_plain_(view.dtype == target.dtype),
        strip_memory_(context.pool, set_sizes(view)) {}

  void read(std::span<std::byte> out) override {
    while (!out.empty()) {
      const std::size_t count = out.size() / out_item_;
      if (!holds(column_, row_)) {
        load_strip();
      }
      Area area{column_, 1, row_, 0};
      if (row_ == 0 && strip_.rows == rows_ && count >= rows_) {
        area.rows = rows_;
        area.columns = std::min(count / rows_, strip_.first_column + strip_.columns - column_);
        column_ += area.columns;
      } else {  // a part of one column, at an edge of the caller's memory
        area.rows = std::min(strip_.first_row + strip_.rows - row_, count);
        row_ += area.rows;
        column_ += row_ / rows_;
        row_ %= rows_;
      }
      transpose(area, out.data());
      out = out.subspan(area.rows * area.columns * out_item_);
    }
  }

 private:
  /// Fixes the matrix and the largest strip; returns the strip's bytes.
  std::size_t set_sizes(const RecipeNode& view) {
    const ViewLayout layout = merge_dims(view);
    columns_ = static_cast<std::size_t>(layout.dims[0].size);
    rows_ = static_cast<std::size_t>(layout.dims[1].size);
    pitch_ = static_cast<std::size_t>(layout.dims[1].stride);
    EXPORT_CHECK(rows_ > 0 && columns_ > 0, "a transpose of nothing is never read");
    const std::size_t budget = std::max<std::size_t>(context_.limits.strip_bytes / item_, 1);
    strip_rows_ = std::min(rows_, budget);
    strip_columns_ = std::min(columns_, std::max<std::size_t>(budget / rows_, 1));
    const std::size_t line = kLine / item_;
    if (strip_columns_ < columns_ && strip_columns_ > line) {
      strip_columns_ -= strip_columns_ % line;
    }
    return strip_rows_ * strip_columns_ * item_;
  }

  [[nodiscard]] bool holds(std::size_t column, std::size_t row) const {
    return column - strip_.first_column < strip_.columns && row - strip_.first_row < strip_.rows;
  }

  /// Read the strip at the current position. Its rows lie one after the other in memory.
  void load_strip() {
    strip_ = {column_, std::min(strip_columns_, columns_ - column_), row_ - row_ % strip_rows_, 0};
    strip_.rows = std::min(strip_rows_, rows_ - strip_.first_row);
    const auto gap =
        (static_cast<std::int64_t>(pitch_) - static_cast<std::int64_t>(strip_.columns)) *
        static_cast<std::int64_t>(item_);
    if (gap == 0 || strip_.rows == 1) {
      read_rows(0, strip_.rows, strip_memory_.bytes());
    } else if (gap > 0 && gap < kGapWorthReading) {
      load_with_gaps();
    } else {
      for (std::size_t row = 0; row < strip_.rows; ++row) {
        read_rows(row, 1, strip_memory_.bytes().subspan(row * strip_.columns * item_));
      }
    }
  }

  /// Whole stretches of the file, of which the strip's columns are kept.
  void load_with_gaps() {
    const std::size_t chunk_rows =
        std::clamp<std::size_t>(kChunk / (pitch_ * item_), 1, strip_.rows);
    const BufferPool::Loan chunk(context_.pool, chunk_rows * pitch_ * item_);
    const std::size_t kept = strip_.columns * item_;
    std::byte* to = strip_memory_.bytes().data();
    for (std::size_t row = 0; row < strip_.rows; row += chunk_rows) {
      const std::size_t count = std::min(chunk_rows, strip_.rows - row);
      read_rows(row, count, chunk.bytes());
      for (std::size_t i = 0; i < count; ++i, to += kept) {
        std::memcpy(to, chunk.bytes().data() + i * pitch_ * item_, kept);
      }
    }
  }

  /// The strip's columns of `count` rows, with the gaps between rows but none behind the last.
  void read_rows(std::size_t row, std::size_t count, std::span<std::byte> memory) {
    const std::size_t first = offset_ + (strip_.first_row + row) * pitch_ + strip_.first_column;
    const std::size_t elements = (count - 1) * pitch_ + strip_.columns;
    context_.source.read(tensor_, first * item_, memory.first(elements * item_));
  }

  /// Transpose and convert an area of the strip; `out` gets its columns one after the other.
  void transpose(const Area& area, std::byte* out) {
    const std::size_t strip_pitch = strip_.columns * item_;
    const std::byte* const strip = strip_memory_.bytes().data() +
                                   (area.first_row - strip_.first_row) * strip_pitch +
                                   (area.first_column - strip_.first_column) * item_;
    const std::size_t out_pitch = area.rows * out_item_;
    for (std::size_t column = 0; column < area.columns; column += kLine / item_) {
      const std::size_t columns = std::min(kLine / item_, area.columns - column);
      for (std::size_t row = 0; row < area.rows; row += kTileRows) {
        const std::size_t rows = std::min(kTileRows, area.rows - row);
        const std::byte* const from = strip + row * strip_pitch + column * item_;
        std::byte* const to = out + column * out_pitch + row * out_item_;
        if (is_plain_) {
          transpose_(from, to, {rows, columns, strip_pitch, out_pitch});
          continue;
        }
        const std::size_t tile_pitch = kTileRows * item_;
        transpose_(from, tile_.data(), {rows, columns, strip_pitch, tile_pitch});
        for (std::size_t i = 0; i < columns; ++i) {
          convert_(tile_.data() + i * tile_pitch, to + i * out_pitch, rows, target_.overflow);
        }
      }
    }
  }

  const TensorInfo& tensor_;
  EvaluationContext context_;
  std::size_t offset_;  ///< elements
  std::size_t item_;
  std::size_t out_item_;
  TransposeFunction transpose_;
  kernels::ConvertFunction convert_;
  TargetType target_;
  bool is_plain_;
  // Of the stored matrix, in elements.
  std::size_t columns_ = 0;
  std::size_t rows_ = 0;
  std::size_t pitch_ = 0;
  std::size_t strip_columns_ = 0;
  std::size_t strip_rows_ = 0;
  BufferPool::Loan strip_memory_;
  Area strip_;
  // The next element to hand out.
  std::size_t column_ = 0;
  std::size_t row_ = 0;
  alignas(kLine) std::array<std::byte, kLine * kTileRows> tile_;
};

}  // namespace

std::unique_ptr<Reader> make_transpose_reader(const RecipeNode& view,
                                              TargetType target,
                                              const EvaluationContext& context) {
  return std::make_unique<TransposeReader>(view, target, context);
}

}  // namespace onnxferry
