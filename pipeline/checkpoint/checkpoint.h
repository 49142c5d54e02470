#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/checkpoint/dtype.h"

namespace onnxferry {

using Shape = std::vector<std::int64_t>;

/// Product of the dims, checked. \throws Error{kCorruptCheckpoint} on overflow
std::uint64_t element_count(std::span<const std::int64_t> shape);

/// One tensor as its header describes it. Plain data, valid as long as its Checkpoint.
struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::kFloat32;
  Shape shape;
  std::uint32_t file = 0;    ///< index of the weight file
  std::uint64_t offset = 0;  ///< of the first element's first byte in that file
  std::uint64_t bytes = 0;   ///< from the first element to the last
  /// In elements, where they do not lie in row-major order (torch keeps a transposed tensor as it
  /// is); empty otherwise. Recipes follow them.
  std::vector<std::int64_t> strides = {};
};

/// Where tensor bytes come from. Implemented by weight files; tests use an in-memory one.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  /// Fill `out` with the tensor's bytes, in the order of the file, from `offset` on. `offset +
  /// out.size() <= tensor.bytes`.
  /// \throws Error{kCorruptCheckpoint} if the file has become shorter. Thread: any, concurrent
  /// calls allowed.
  virtual void read(const TensorInfo& tensor,
                    std::uint64_t offset,
                    std::span<std::byte> out) const = 0;
};

/// The weight files of one model directory: headers parsed and checked, no weight read yet.
class WeightFiles : public TensorSource {
 public:
  /// Open model.safetensors, pytorch_model.bin, or the index of either with its shards, in
  /// transformers' order (weight_choice.h).
  /// \throws Error{kCorruptCheckpoint} naming file and tensor; Error{kUnsupportedModel} for
  ///         adapters and other formats that are not read
  static WeightFiles open(const std::filesystem::path& directory);

  WeightFiles(WeightFiles&&) noexcept;
  WeightFiles& operator=(WeightFiles&&) noexcept;
  WeightFiles(const WeightFiles&) = delete;
  WeightFiles& operator=(const WeightFiles&) = delete;
  ~WeightFiles() override;

  /// In file order: by file, then by offset.
  [[nodiscard]] std::span<const TensorInfo> tensors() const;
  /// nullptr if absent.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;
  /// Base names of the weight files, and of the index if there is one.
  [[nodiscard]] std::span<const std::string> file_names() const;
  void read(const TensorInfo& tensor,
            std::uint64_t offset,
            std::span<std::byte> out) const override;

 private:
  struct Impl;
  explicit WeightFiles(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace onnxferry
