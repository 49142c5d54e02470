#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace onnxferry {

/// Which weight file to open: one file, or an index with its shards.
struct WeightChoice {
  enum class Format : std::uint8_t { kSafetensors, kTorch };
  std::string file;
  Format format = Format::kSafetensors;

  [[nodiscard]] bool is_index() const { return file.ends_with(".json"); }
  /// Of the file or of the shards: ".safetensors" or ".bin".
  [[nodiscard]] std::string_view extension() const;
};

/// The choice and order of transformers' from_pretrained: model.safetensors, its index,
/// pytorch_model.bin, its index. Where none is there but exactly one variant of one of these
/// ("model.fp16.safetensors"), that one, as `from_pretrained(variant=…)` would; safetensors first.
///
/// \param names  of the directory's files, sorted
/// \throws Error{kUnsupportedModel} adapters, other formats, several variants;
///         Error{kCorruptCheckpoint} no weights
WeightChoice choose_weights(const std::vector<std::string>& names);

}  // namespace onnxferry
