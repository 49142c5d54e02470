#pragma once

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/error.h"

namespace onnxferry::test {

/// One tensor in memory; logs what is read from it.
class MemoryTensor : public TensorSource {
 public:
  struct Read {
    std::uint64_t offset;
    std::size_t bytes;
  };

  MemoryTensor(Dtype dtype, Shape shape, std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {
    info.name = "weight";
    info.dtype = dtype;
    info.shape = std::move(shape);
    info.bytes = bytes_.size();
  }

  /// Random bits, so NaN, infinity and subnormals are among them.
  static MemoryTensor random(Dtype dtype, const Shape& shape, std::uint32_t seed = 1) {
    std::size_t size = item_bytes(dtype);
    for (const std::int64_t dim : shape) {
      size *= static_cast<std::size_t>(dim);
    }
    std::mt19937 random(seed);
    std::vector<std::byte> bytes(size);
    std::ranges::generate(bytes, [&] { return static_cast<std::byte>(random() & 0xffU); });
    return {dtype, shape, std::move(bytes)};
  }

  void read(const TensorInfo& tensor,
            std::uint64_t offset,
            std::span<std::byte> out) const override {
    ASSERT_EQ(&tensor, &info);
    ASSERT_LE(offset + out.size(), bytes_.size()) << "read past the tensor";
    reads.push_back({offset, out.size()});
    if (reads.size() > fail_after) {
      throw Error(ErrorCode::kCorruptCheckpoint, "the file has become shorter");
    }
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }

  [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

  TensorInfo info;
  std::size_t fail_after = ~std::size_t{0};  ///< this many reads succeed
  mutable std::vector<Read> reads;

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace onnxferry::test
