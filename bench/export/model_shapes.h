#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace onnxferry::bench {

struct ShapedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// A checkpoint by its looks: the real names and shapes of a published model, no real weights.
struct ModelShape {
  std::string_view name;
  std::string config_json;  ///< as the hub has it
  std::string dtype;        ///< safetensors spelling
  std::size_t item_bytes = 2;
  bool is_sparse = false;  ///< weights are a hole in the file: no disk, all zeros
  std::vector<ShapedTensor> tensors;
};

/// "qwen2.5-0.5b", "bert-base" or "7b-sparse".
std::optional<ModelShape> find_model_shape(std::string_view name);

}  // namespace onnxferry::bench
