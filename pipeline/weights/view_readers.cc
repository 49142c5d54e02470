#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "pipeline/error.h"
#include "pipeline/weights/readers.h"
#include "pipeline/weights/view_layout.h"

namespace onnxferry {

ViewLayout merge_dims(const RecipeNode& view) {
  ViewLayout layout;
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    const ViewLayout::Dim dim{view.shape[i], view.strides[i]};
    if (dim.size == 1) {
      continue;
    }
    if (!layout.dims.empty() && layout.dims.back().stride == dim.stride * dim.size) {
      layout.dims.back() = {layout.dims.back().size * dim.size, dim.stride};
    } else {
      layout.dims.push_back(dim);
    }
  }
  return layout;
}

namespace {

/// Consecutive elements: straight from the source into the caller's memory.
class ContiguousReader : public Reader {
 public:
  ContiguousReader(const RecipeNode& view, const EvaluationContext& context)
      : tensor_(*view.tensor),
        source_(context.source),
        offset_(static_cast<std::uint64_t>(view.view_offset) * item_bytes(view.dtype)) {}

  void read(std::span<std::byte> out) override {
    source_.read(tensor_, offset_, out);
    offset_ += out.size();
  }

 private:
  const TensorInfo& tensor_;
  const TensorSource& source_;
  std::uint64_t offset_;
};

/// Walks the rows of a layout (all dims but the last) in row-major order.
class RowWalk {
 public:
  RowWalk(ViewLayout layout, std::int64_t offset)
      : layout_(std::move(layout)), index_(layout_.dims.size(), 0), base_(offset) {}

  [[nodiscard]] const ViewLayout::Dim& row() const { return layout_.dims.back(); }
  /// Source element of the next element to read.
  [[nodiscard]] std::int64_t element() const { return base_ + index_.back() * row().stride; }
  [[nodiscard]] std::int64_t left_in_row() const { return row().size - index_.back(); }

  /// Step over `count` elements of the current row, into the next row at its end.
  void advance(std::int64_t count) {
    index_.back() += count;
    if (index_.back() < row().size) {
      return;
    }
    index_.back() = 0;
    for (std::size_t i = layout_.dims.size() - 1; i-- > 0;) {
      const ViewLayout::Dim& dim = layout_.dims[i];
      base_ += dim.stride;
      if (++index_[i] < dim.size) {
        return;
      }
      base_ -= dim.stride * dim.size;
      index_[i] = 0;
    }
  }

 private:
  ViewLayout layout_;
  std::vector<std::int64_t> index_;
  std::int64_t base_;  ///< source element of the current row's start
};

/// Rows that are contiguous and long enough to be worth one read each.
class RunReader : public Reader {
 public:
  RunReader(const RecipeNode& view, ViewLayout layout, const EvaluationContext& context)
      : tensor_(*view.tensor),
        source_(context.source),
        item_(item_bytes(view.dtype)),
        walk_(std::move(layout), view.view_offset) {}

  void read(std::span<std::byte> out) override {
    while (!out.empty()) {
      const auto left = static_cast<std::size_t>(walk_.left_in_row());
      const std::size_t count = std::min(left, out.size() / item_);
      source_.read(
          tensor_, static_cast<std::uint64_t>(walk_.element()) * item_, out.first(count * item_));
      walk_.advance(static_cast<std::int64_t>(count));
      out = out.subspan(count * item_);
    }
  }

 private:
  const TensorInfo& tensor_;
  const TensorSource& source_;
  std::size_t item_;
  RowWalk walk_;
};

/// Blocks of one tensor, each read once while it stays in its slot.
class BlockCache {
 public:
  static constexpr std::size_t kBlock = 4096;  // a multiple of every element size

  BlockCache(const TensorInfo& tensor, const EvaluationContext& context)
      : tensor_(tensor),
        source_(context.source),
        memory_(context.pool, bytes_for(tensor, context.limits)),
        blocks_(bytes_for(tensor, context.limits) / kBlock, kEmpty) {}

  /// Address of the byte at `offset`; valid until the next call.
  const std::byte* at(std::uint64_t offset) {
    const std::uint64_t block = offset / kBlock;
    // Power-of-two strides would share few slots, so a tensor larger than the cache is hashed.
    const std::uint64_t key = fits_ ? block : (block * 0x9e3779b97f4a7c15U) >> 20;
    const std::size_t slot = key % blocks_.size();
    std::byte* const bytes = memory_.bytes().data() + slot * kBlock;
    if (blocks_[slot] != block) {
      blocks_[slot] = kEmpty;
      const std::uint64_t start = block * kBlock;
      const std::size_t count = std::min<std::uint64_t>(kBlock, tensor_.bytes - start);
      source_.read(tensor_, start, {bytes, count});
      blocks_[slot] = block;
    }
    return bytes + offset % kBlock;
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};

  static std::size_t bytes_for(const TensorInfo& tensor, const EvaluationLimits& limits) {
    const std::uint64_t whole = (tensor.bytes + kBlock - 1) / kBlock * kBlock;
    const std::uint64_t bound = std::max(limits.gather_bytes / kBlock, std::size_t{1}) * kBlock;
    return static_cast<std::size_t>(std::clamp<std::uint64_t>(whole, kBlock, bound));
  }

  const TensorInfo& tensor_;
  const TensorSource& source_;
  BufferPool::Loan memory_;
  std::vector<std::uint64_t> blocks_;  ///< which block each slot holds
  bool fits_ = blocks_.size() * kBlock >= tensor_.bytes;
};

/// Any view, element by element.
class GatherReader : public Reader {
 public:
  GatherReader(const RecipeNode& view, ViewLayout layout, const EvaluationContext& context)
      : item_(item_bytes(view.dtype)),
        walk_(std::move(layout), view.view_offset),
        cache_(*view.tensor, context) {}

  void read(std::span<std::byte> out) override {
    switch (item_) {
      case 1:
        return gather<1>(out);
      case 2:
        return gather<2>(out);
      case 4:
        return gather<4>(out);
      case 8:
        return gather<8>(out);
      default:
        EXPORT_CHECK(false, "an element size that is not a power of two");
    }
  }

 private:
  template <std::size_t kItem>
  void gather(std::span<std::byte> out) {
    while (!out.empty()) {
      const auto left = static_cast<std::size_t>(walk_.left_in_row());
      const std::size_t count = std::min(left, out.size() / kItem);
      std::int64_t element = walk_.element();
      for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(
            out.data() + i * kItem, cache_.at(static_cast<std::uint64_t>(element) * kItem), kItem);
        element += walk_.row().stride;
      }
      walk_.advance(static_cast<std::int64_t>(count));
      out = out.subspan(count * kItem);
    }
  }

  std::size_t item_;
  RowWalk walk_;
  BlockCache cache_;
};

}  // namespace

bool is_transposed(const RecipeNode& view) {
  const ViewLayout layout = merge_dims(view);
  return layout.dims.size() == 2 && layout.dims[0].stride == 1 && layout.dims[1].stride > 1;
}

std::unique_ptr<Reader> make_view_reader(const RecipeNode& node, const EvaluationContext& context) {
  constexpr std::size_t kShortestRun = 512;  // bytes; below, one read costs more than its bytes
  ViewLayout layout = merge_dims(node);
  if (layout.is_contiguous()) {
    return std::make_unique<ContiguousReader>(node, context);
  }
  if (is_transposed(node)) {
    return make_transpose_reader(node, {node.dtype}, context);
  }
  const ViewLayout::Dim& row = layout.dims.back();
  if (row.stride == 1 &&
      static_cast<std::uint64_t>(row.size) * item_bytes(node.dtype) >= kShortestRun) {
    return std::make_unique<RunReader>(node, std::move(layout), context);
  }
  return std::make_unique<GatherReader>(node, std::move(layout), context);
}

}  // namespace onnxferry
