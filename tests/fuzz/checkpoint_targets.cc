#include <algorithm>
#include <cstddef>
#include <string>

#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/checkpoint/index.h"
#include "pipeline/checkpoint/model_config.h"
#include "pipeline/checkpoint/safetensors.h"
#include "pipeline/checkpoint/torch_file.h"
#include "pipeline/error.h"
#include "tests/fuzz/targets.h"

namespace onnxferry::fuzz {

/// The input is a whole file. What passes lies inside the file, in order and without overlap.
void fuzz_safetensors(Input input) {
  const std::string_view file = as_text(input);
  try {
    const std::uint64_t length = safetensors_header_bytes(file.substr(0, 8), file.size(), "fuzz");
    FUZZ_CHECK(length <= file.size() - 8);
    std::uint64_t position = 8 + length;
    for (const TensorInfo& tensor :
         parse_safetensors_header(file.substr(8, length), file.size(), "fuzz")) {
      FUZZ_CHECK(tensor.offset == position);
      FUZZ_CHECK(tensor.bytes <= file.size() - position);
      FUZZ_CHECK(!tensor.name.empty());
      static_cast<void>(element_count(tensor.shape));
      position += tensor.bytes;
    }
    FUZZ_CHECK(position == file.size());
  } catch (const Error& error) {
    FUZZ_CHECK(error.code() != ErrorCode::kInternal);
  }
}

namespace {

class MemoryFile final : public RandomAccessFile {
 public:
  explicit MemoryFile(Input input) : bytes_(std::as_bytes(input)) {}

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::uint64_t file_bytes() const override { return bytes_.size(); }
  [[nodiscard]] bool read_exactly(std::uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      return false;
    }
    std::ranges::copy(bytes_.subspan(static_cast<std::size_t>(offset), out.size()), out.begin());
    return true;
  }

 private:
  std::string name_ = "fuzz";
  std::span<const std::byte> bytes_;
};

}  // namespace

/// The input is a whole file. Whatever the strides, no tensor reaches outside.
void fuzz_torch(Input input) {
  try {
    for (const TensorInfo& tensor : read_torch_file(MemoryFile(input))) {
      FUZZ_CHECK(tensor.offset <= input.size());
      FUZZ_CHECK(tensor.bytes <= input.size() - tensor.offset);
      FUZZ_CHECK(!tensor.name.empty());
      const std::uint64_t count = element_count(tensor.shape);
      FUZZ_CHECK(tensor.strides.empty() || tensor.strides.size() == tensor.shape.size());
      FUZZ_CHECK(!tensor.strides.empty() || tensor.bytes == count * item_bytes(tensor.dtype));
      std::uint64_t last = 0;
      for (std::size_t i = 0; i < tensor.strides.size(); ++i) {
        last += static_cast<std::uint64_t>((tensor.shape[i] - 1) * tensor.strides[i]);
      }
      FUZZ_CHECK(count == 0 || (last + 1) * item_bytes(tensor.dtype) <= tensor.bytes);
    }
  } catch (const Error& error) {
    FUZZ_CHECK(error.code() != ErrorCode::kInternal);
  }
}

void fuzz_index(Input input) {
  try {
    const ShardIndex index = parse_shard_index(as_text(input), "fuzz");
    for (const std::string& shard : index.shards) {
      FUZZ_CHECK(shard.ends_with(".safetensors") && shard.find('/') == std::string::npos);
    }
    for (const auto& [tensor, shard] : index.shard_of) {
      FUZZ_CHECK(shard < index.shards.size());
    }
  } catch (const Error& error) {
    FUZZ_CHECK(error.code() != ErrorCode::kInternal);
  }
}

namespace {

template <typename Function>
void tolerate_error(Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    FUZZ_CHECK(error.code() != ErrorCode::kInternal);
  }
}

}  // namespace

/// Every getter on keys of every type, then what nobody asked for.
void fuzz_config(Input input) {
  tolerate_error([&] {
    const ModelConfig config = ModelConfig::parse(as_text(input));
    tolerate_error([&] { static_cast<void>(config.model_type()); });
    tolerate_error([&] { static_cast<void>(config.architecture_class()); });
    tolerate_error([&] { static_cast<void>(config.num_labels()); });
    for (const char* key :
         {"hidden_size", "rms_norm_eps", "hidden_act", "rope_scaling", "layer_types"}) {
      tolerate_error([&] { static_cast<void>(config.dimension(key)); });
      tolerate_error([&] { static_cast<void>(config.integer(key, 1)); });
      tolerate_error([&] { static_cast<void>(config.number(key)); });
      tolerate_error([&] { static_cast<void>(config.boolean(key, false)); });
      tolerate_error([&] { static_cast<void>(config.text(key, "")); });
      tolerate_error([&] { static_cast<void>(config.find_texts(key)); });
      tolerate_error([&] { static_cast<void>(config.find_numbers(key)); });
      tolerate_error([&] {
        if (const auto object = config.find_object(key)) {
          static_cast<void>(object->find_number("factor"));
        }
      });
    }
    static_cast<void>(check_config_consumed(config));
  });
}

}  // namespace onnxferry::fuzz
