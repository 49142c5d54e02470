#include "pipeline/weights/readers.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

using kernels::Overflow;

std::size_t total_bytes(const RecipeNode& node) {
  std::size_t bytes = item_bytes(node.dtype);
  for (const std::int64_t dim : node.shape) {
    bytes *= static_cast<std::size_t>(dim);  // no overflow: checked when the recipe was made
  }
  return bytes;
}

class LiteralReader : public Reader {
 public:
  explicit LiteralReader(const RecipeNode& node) : rest_(std::as_bytes(std::span(node.literal))) {}

  void read(std::span<std::byte> out) override {
    std::memcpy(out.data(), rest_.data(), out.size());
    rest_ = rest_.subspan(out.size());
  }

 private:
  std::span<const std::byte> rest_;
};

class GenerateReader : public Reader {
 public:
  explicit GenerateReader(const RecipeNode& node) : node_(node) {}

  void read(std::span<std::byte> out) override {
    node_.generate(next_, out);
    next_ += out.size() / item_bytes(node_.dtype);
  }

 private:
  const RecipeNode& node_;
  std::uint64_t next_ = 0;
};

class ConcatReader : public Reader {
 public:
  ConcatReader(const RecipeNode& node, const EvaluationContext& context)
      : node_(node), context_(context) {}

  void read(std::span<std::byte> out) override {
    while (!out.empty()) {
      if (left_ == 0) {
        reader_.reset();  // gives its scratch memory back before the next one asks for some
        const RecipeNode& part = *node_.inputs.at(next_++);
        left_ = total_bytes(part);
        if (left_ == 0) {
          continue;
        }
        reader_ = make_reader(part, context_);
      }
      const std::size_t count = std::min(left_, out.size());
      reader_->read(out.first(count));
      left_ -= count;
      out = out.subspan(count);
    }
  }

 private:
  const RecipeNode& node_;
  EvaluationContext context_;
  std::size_t next_ = 0;
  std::unique_ptr<Reader> reader_;
  std::size_t left_ = 0;
};

/// Another node's elements, converted block by block.
class CastReader : public Reader {
 public:
  CastReader(const RecipeNode& source,
             TargetType target,
             std::unique_ptr<Reader> reader,
             const EvaluationContext& context)
      : in_item_(item_bytes(source.dtype)),
        out_item_(item_bytes(target.dtype)),
        convert_(find_convert(source.dtype, target.dtype)),
        overflow_(target.overflow),
        reader_(std::move(reader)),
        block_elements_(std::clamp<std::size_t>(
            context.limits.block_bytes / 8, 1, total_bytes(source) / in_item_)),
        block_(context.pool, block_elements_ * in_item_) {}

  void read(std::span<std::byte> out) override {
    while (!out.empty()) {
      const std::size_t count = std::min(block_elements_, out.size() / out_item_);
      const std::span<std::byte> block = block_.bytes().first(count * in_item_);
      reader_->read(block);
      convert_(block.data(), out.data(), count, overflow_);
      out = out.subspan(count * out_item_);
    }
  }

 private:
  std::size_t in_item_;
  std::size_t out_item_;
  kernels::ConvertFunction convert_;
  Overflow overflow_;
  std::unique_ptr<Reader> reader_;
  std::size_t block_elements_;
  BufferPool::Loan block_;
};

std::unique_ptr<Reader> make_cast_reader(const RecipeNode& source,
                                         TargetType target,
                                         const EvaluationContext& context) {
  if (source.dtype == target.dtype) {
    return make_reader(source, context);
  }
  if (source.op == RecipeNode::Op::kView && is_transposed(source)) {
    return make_transpose_reader(source, target, context);
  }
  return std::make_unique<CastReader>(source, target, make_reader(source, context), context);
}

/// Walks memory that may not be aligned for float.
template <typename Function>
void for_each_float(std::span<std::byte> bytes, const Function& function) {
  for (std::size_t i = 0; i < bytes.size(); i += sizeof(float)) {
    float value = 0;
    std::memcpy(&value, bytes.data() + i, sizeof(float));
    value = function(value);
    std::memcpy(bytes.data() + i, &value, sizeof(float));
  }
}

class AffineReader : public Reader {
 public:
  AffineReader(const RecipeNode& node, const EvaluationContext& context)
      : scale_(static_cast<float>(node.scale)),
        shift_(static_cast<float>(node.shift)),
        reader_(make_cast_reader(*node.inputs.front(), {Dtype::kFloat32}, context)) {}

  void read(std::span<std::byte> out) override {
    reader_->read(out);
    for_each_float(out, [this](float value) { return scale_ * value + shift_; });
  }

 private:
  float scale_;
  float shift_;
  std::unique_ptr<Reader> reader_;
};

/// The right side of a binary, from its start again and again.
class CyclicReader {
 public:
  CyclicReader(const RecipeNode& node, const EvaluationContext& context)
      : node_(node), context_(context) {}

  /// At most up to the end of the current cycle; returns how many bytes that was.
  std::size_t read(std::span<std::byte> out) {
    if (left_ == 0) {
      reader_.reset();
      reader_ = make_cast_reader(node_, {Dtype::kFloat32}, context_);
      left_ = total_bytes(node_) / item_bytes(node_.dtype) * sizeof(float);
    }
    const std::size_t count = std::min(left_, out.size());
    reader_->read(out.first(count));
    left_ -= count;
    return count;
  }

  /// Bytes of one cycle, as float32.
  [[nodiscard]] std::size_t cycle_bytes() const {
    return total_bytes(node_) / item_bytes(node_.dtype) * sizeof(float);
  }

 private:
  const RecipeNode& node_;
  EvaluationContext context_;
  std::unique_ptr<Reader> reader_;
  std::size_t left_ = 0;
};

class BinaryReader : public Reader {
 public:
  BinaryReader(const RecipeNode& node, const EvaluationContext& context)
      : op_(node.binary),
        left_(make_cast_reader(*node.inputs.at(0), {Dtype::kFloat32}, context)),
        right_(*node.inputs.at(1), context),
        memory_(context.pool, std::max(context.limits.block_bytes, sizeof(float))) {}

  void read(std::span<std::byte> out) override {
    left_->read(out);
    while (!out.empty()) {
      const std::span<const std::byte> right = next_right(out.size());
      combine(out.first(right.size()), right.data());
      out = out.subspan(right.size());
    }
  }

 private:
  /// A small right side is evaluated once and kept, a large one read again in every cycle.
  std::span<const std::byte> next_right(std::size_t wanted) {
    const std::span<std::byte> block =
        memory_.bytes().first(memory_.bytes().size() / sizeof(float) * sizeof(float));
    const std::size_t cycle = right_.cycle_bytes();
    if (cycle > block.size()) {
      return block.first(right_.read(block.first(std::min(wanted, block.size()))));
    }
    if (!is_kept_) {
      right_.read(block.first(cycle));
      is_kept_ = true;
    }
    const std::size_t count = std::min(wanted, cycle - position_);
    const auto piece = block.subspan(position_, count);
    position_ = (position_ + count) % cycle;
    return piece;
  }

  void combine(std::span<std::byte> left, const std::byte* right) const {
    const auto with_right = [&](auto apply) {
      for_each_float(left, [&](float value) {
        float other = 0;
        std::memcpy(&other, right, sizeof(float));
        right += sizeof(float);
        return apply(value, other);
      });
    };
    switch (op_) {
      case BinaryOp::kAdd:
        return with_right([](float a, float b) { return a + b; });
      case BinaryOp::kMul:
        return with_right([](float a, float b) { return a * b; });
      case BinaryOp::kDiv:
        return with_right([](float a, float b) { return a / b; });
    }
  }

  BinaryOp op_;
  std::unique_ptr<Reader> left_;
  CyclicReader right_;
  BufferPool::Loan memory_;
  bool is_kept_ = false;
  std::size_t position_ = 0;
};

}  // namespace

std::unique_ptr<Reader> make_reader(const RecipeNode& node, const EvaluationContext& context) {
  switch (node.op) {
    case RecipeNode::Op::kView:
      return make_view_reader(node, context);
    case RecipeNode::Op::kConcat:
      return std::make_unique<ConcatReader>(node, context);
    case RecipeNode::Op::kCast: {
      const Overflow overflow = node.clamp ? Overflow::kClamp : Overflow::kToInfinity;
      return make_cast_reader(*node.inputs.front(), {node.dtype, overflow}, context);
    }
    case RecipeNode::Op::kAffine:
      return std::make_unique<AffineReader>(node, context);
    case RecipeNode::Op::kBinary:
      return std::make_unique<BinaryReader>(node, context);
    case RecipeNode::Op::kMxfp4:
      return make_mxfp4_reader(node, context);
    case RecipeNode::Op::kLiteral:
      return std::make_unique<LiteralReader>(node);
    case RecipeNode::Op::kGenerate:
      return std::make_unique<GenerateReader>(node);
  }
  EXPORT_CHECK(false, "an unknown recipe operation");
}

}  // namespace onnxferry
