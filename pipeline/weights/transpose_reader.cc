// Every Linear weight comes through here: [out, in] in the checkpoint, [in, out] in the graph.
//
// The output is wanted front to back, that is column by column of the stored matrix. So the matrix
// is taken in strips of columns that fit in memory (one strip, for most). Of a strip, a panel of
// columns is transposed at a time, as wide as a cache line, so that every line of the strip is read
// once; from the panel each column is converted into the output, in pieces of any size.

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

constexpr std::size_t kLine = 64;  // bytes of one stored row in a panel
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
        overflow_(target.overflow),
        strip_memory_(context.pool, set_sizes(view)),
        panel_memory_(context.pool, panel_columns_ * panel_pitch_) {}

  void read(std::span<std::byte> out) override {
    while (!out.empty()) {
      if (!holds(strip_)) {
        load_strip();
        panel_ = {};
      }
      if (!holds(panel_)) {
        fill_panel();
      }
      const std::size_t count =
          std::min(panel_.first_row + panel_.rows - row_, out.size() / out_item_);
      const std::byte* const from = panel_memory_.bytes().data() +
                                    (column_ - panel_.first_column) * panel_pitch_ +
                                    (row_ - panel_.first_row) * item_;
      convert_(from, out.data(), count, overflow_);
      out = out.subspan(count * out_item_);
      row_ += count;
      column_ += row_ / rows_;
      row_ %= rows_;
    }
  }

 private:
  /// Fixes the matrix, the largest strip and its panels; returns the strip's bytes.
  std::size_t set_sizes(const RecipeNode& view) {
    const ViewLayout layout = merge_dims(view);
    columns_ = static_cast<std::size_t>(layout.dims[0].size);
    rows_ = static_cast<std::size_t>(layout.dims[1].size);
    pitch_ = static_cast<std::size_t>(layout.dims[1].stride);
    const std::size_t budget = std::max<std::size_t>(context_.limits.strip_bytes / item_, 1);
    strip_rows_ = std::min(rows_, budget);
    strip_columns_ = std::min(columns_, std::max<std::size_t>(budget / rows_, 1));
    const std::size_t line = std::max<std::size_t>(kLine / item_, 1);
    if (strip_columns_ < columns_ && strip_columns_ > line) {
      strip_columns_ -= strip_columns_ % line;
    }
    panel_columns_ = std::min(line, strip_columns_);
    // One line more than needed: columns a power of two apart would share few places in the cache.
    panel_pitch_ = (strip_rows_ * item_ + kLine - 1) / kLine * kLine + kLine;
    return strip_rows_ * strip_columns_ * item_;
  }

  /// Whether the next element is in the area.
  [[nodiscard]] bool holds(const Area& area) const {
    return column_ - area.first_column < area.columns && row_ - area.first_row < area.rows;
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

  /// Transpose the columns from the current one on, as many as a panel has.
  void fill_panel() {
    const std::size_t skipped = column_ - strip_.first_column;
    panel_ = strip_;
    panel_.first_column = column_;
    panel_.columns = std::min(panel_columns_, strip_.columns - skipped);
    transpose_(strip_memory_.bytes().data() + skipped * item_,
               panel_memory_.bytes().data(),
               {panel_.rows, panel_.columns, strip_.columns * item_, panel_pitch_});
  }

  const TensorInfo& tensor_;
  EvaluationContext context_;
  std::size_t offset_;  ///< elements
  std::size_t item_;
  std::size_t out_item_;
  TransposeFunction transpose_;
  kernels::ConvertFunction convert_;
  kernels::Overflow overflow_;
  // Of the stored matrix, in elements.
  std::size_t columns_ = 0;
  std::size_t rows_ = 0;
  std::size_t pitch_ = 0;
  std::size_t strip_columns_ = 0;
  std::size_t strip_rows_ = 0;
  std::size_t panel_columns_ = 0;
  std::size_t panel_pitch_ = 0;  ///< bytes
  BufferPool::Loan strip_memory_;
  BufferPool::Loan panel_memory_;
  Area strip_;
  Area panel_;
  // The next element to hand out.
  std::size_t column_ = 0;
  std::size_t row_ = 0;
};

}  // namespace

std::unique_ptr<Reader> make_transpose_reader(const RecipeNode& view,
                                              TargetType target,
                                              const EvaluationContext& context) {
  return std::make_unique<TransposeReader>(view, target, context);
}

}  // namespace onnxferry
