#include "pipeline/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/checkpoint/json_events.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::size_t kMaxNameBytes = 1024;
constexpr std::size_t kMaxRank = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

// Types of the format without a Dtype of ours: quantized checkpoints and complex numbers.
constexpr std::array<std::string_view, 7> kUnreadDtypes = {
    "F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"};

struct RawTensor {
  std::string name;
  std::string dtype;
  Shape shape;
  std::array<std::uint64_t, 2> data_offsets = {};
  std::size_t num_offsets = 0;
  bool has_dtype = false;
  bool has_shape = false;
  bool has_offsets = false;
};

/// Builds RawTensors from the header's JSON: structure and types of values only.
class HeaderReader final : public JsonEvents {
 public:
  HeaderReader(std::string_view file_name, std::size_t max_tensors)
      : file_name_(file_name), max_tensors_(max_tensors) {}

  std::deque<RawTensor>& tensors() { return tensors_; }
  [[nodiscard]] const std::optional<std::string>& format() const { return format_; }

  bool start_object(std::size_t /*size*/) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kRoot;
        return true;
      case Place::kRoot:
        place_ = key_ == kMetadataKey ? Place::kMetadata : Place::kTensor;
        return true;
      default:
        refuse("an object");
    }
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      check_complete(tensors_.back());
    }
    place_ = Place::kRoot;
    return true;
  }

  bool key(string_t& name) override {
    key_ = name;
    switch (place_) {
      case Place::kRoot:
        root_key();
        break;
      case Place::kMetadata:
        if (!metadata_keys_.insert(key_).second) {
          fail(fmt::format("has the key {} twice in {}", quote(key_), kMetadataKey));
        }
        break;
      default:
        tensor_key();
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      if (key_ == "format") {
        format_ = value;
      }
      return true;
    }
    if (place_ == Place::kTensor && key_ == "dtype") {
      tensors_.back().dtype = value;
      tensors_.back().has_dtype = true;
      return true;
    }
    refuse("a string");
  }

  bool start_array(std::size_t /*size*/) override {
    if (place_ == Place::kTensor && key_ == "shape") {
      place_ = Place::kShape;
      tensors_.back().has_shape = true;
      return true;
    }
    if (place_ == Place::kTensor && key_ == "data_offsets") {
      place_ = Place::kOffsets;
      tensors_.back().has_offsets = true;
      return true;
    }
    refuse("an array");
  }

  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      Shape& shape = tensors_.back().shape;
      if (!std::in_range<std::int64_t>(value)) {
        refuse("a number past 2^63");
      }
      if (shape.size() == kMaxRank) {
        fail_tensor(fmt::format("has more than {} dimensions", kMaxRank));
      }
      shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets) {
      RawTensor& tensor = tensors_.back();
      if (tensor.num_offsets == tensor.data_offsets.size()) {
        fail_tensor("has more than two numbers in data_offsets; expected begin and end");
      }
      tensor.data_offsets[tensor.num_offsets++] = value;
      return true;
    }
    refuse("a number");
  }

 private:
  enum class Place : std::uint8_t { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets };

  [[noreturn]] bool refuse(std::string_view found) override {
    switch (place_) {
      case Place::kMetadata:
        fail(
            fmt::format("has {} as {} of {}; expected a string", found, quote(key_), kMetadataKey));
      case Place::kShape:
        fail_tensor(fmt::format("has {} in shape; expected integers from 0", found));
      case Place::kOffsets:
        fail_tensor(fmt::format("has {} in data_offsets; expected integers from 0", found));
      case Place::kTensor:
        fail_tensor(fmt::format("has {} as {}; expected {}", found, key_, expected_value()));
      default:
        fail(fmt::format("has {} under {}; expected an object", found, quote(key_)));
    }
  }

  [[noreturn]] void fail(const std::string& text) override {
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("{}: the safetensors header {}", file_name_, text),
                file_name_);
  }

  [[noreturn]] void fail_tensor(const std::string& text) {
    const std::string& name = tensors_.back().name;
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("{}: tensor {} {}", file_name_, quote(name), text),
                name);
  }

  [[nodiscard]] std::string_view expected_value() const {
    return key_ == "dtype" ? "a string" : key_ == "shape" ? "an array" : "an array of two";
  }

  void root_key() {
    if (key_ == kMetadataKey) {
      if (std::exchange(has_metadata_, true)) {
        fail(fmt::format("has {} twice", kMetadataKey));
      }
      return;
    }
    if (key_.empty() || key_.size() > kMaxNameBytes) {
      fail(fmt::format("has a tensor name of {} bytes ({}); expected 1 to {}",
                       key_.size(),
                       quote(key_),
                       kMaxNameBytes));
    }
    if (std::ranges::any_of(key_, [](unsigned char c) { return c < 0x20 || c == 0x7F; })) {
      fail(fmt::format("has a tensor name with control characters: {}", quote(key_)));
    }
    if (names_.contains(key_)) {
      fail(fmt::format("names tensor {} twice", quote(key_)));
    }
    if (tensors_.size() == max_tensors_) {
      fail(fmt::format("lists more than {} tensors", max_tensors_));
    }
    tensors_.emplace_back().name = key_;
    names_.insert(tensors_.back().name);
  }

  void tensor_key() {
    const RawTensor& tensor = tensors_.back();
    const bool known = key_ == "dtype" || key_ == "shape" || key_ == "data_offsets";
    if (!known) {
      fail_tensor(fmt::format("has the unknown key {}; expected dtype, shape and data_offsets",
                              quote(key_)));
    }
    const bool seen = (key_ == "dtype" && tensor.has_dtype) ||
                      (key_ == "shape" && tensor.has_shape) ||
                      (key_ == "data_offsets" && tensor.has_offsets);
    if (seen) {
      fail_tensor(fmt::format("has {} twice", key_));
    }
  }

  void check_complete(const RawTensor& tensor) {
    if (!tensor.has_dtype) {
      fail_tensor("has no dtype");
    }
    if (!tensor.has_shape) {
      fail_tensor("has no shape");
    }
    if (!tensor.has_offsets) {
      fail_tensor("has no data_offsets");
    }
    if (tensor.num_offsets != tensor.data_offsets.size()) {
      fail_tensor(fmt::format("has {} numbers in data_offsets; expected begin and end",
                              tensor.num_offsets));
    }
  }

  std::string file_name_;
  std::size_t max_tensors_;
  Place place_ = Place::kStart;
  std::string key_;
  std::deque<RawTensor> tensors_;  // stay where they are: names_ looks at them
  std::unordered_set<std::string_view> names_;
  std::unordered_set<std::string> metadata_keys_;
  std::optional<std::string> format_;
  bool has_metadata_ = false;
};

[[noreturn]] void fail_tensor(std::string_view file_name,
                              const std::string& name,
                              const std::string& text,
                              ErrorCode code = ErrorCode::kCorruptCheckpoint) {
  throw Error(code, fmt::format("{}: tensor {} {}", file_name, quote(name), text), name);
}

/// transformers reads "pt" and takes "mlx" as compatible; a file without metadata counts as "pt".
/// "tf" and "flax" hold transposed kernels under other names, and what "np" or others hold nobody
/// says: a model exported from them would be wrong, so they are refused.
void check_format(const std::optional<std::string>& format, std::string_view file_name) {
  if (!format || *format == "pt" || *format == "mlx") {
    return;
  }
  throw Error(ErrorCode::kUnsupportedModel,
              fmt::format("{}: the metadata names format {}, expected \"pt\"; load the model in "
                          "transformers and save it again from PyTorch",
                          file_name,
                          quote(*format)),
              std::string(file_name));
}

Dtype read_dtype(const RawTensor& raw, std::string_view file_name) {
  if (const auto dtype = find_safetensors_dtype(raw.dtype)) {
    return *dtype;
  }
  if (std::ranges::find(kUnreadDtypes, raw.dtype) != kUnreadDtypes.end()) {
    fail_tensor(file_name,
                raw.name,
                fmt::format("has dtype {}, which is not read; quantized checkpoints must be "
                            "dequantized to F32, F16 or BF16 first",
                            raw.dtype),
                ErrorCode::kUnsupportedModel);
  }
  fail_tensor(file_name,
              raw.name,
              fmt::format("has the unknown dtype {}; expected one of the safetensors format, e.g. "
                          "F32, F16, BF16",
                          quote(raw.dtype)));
}

TensorInfo check_tensor(RawTensor raw, std::string_view file_name) {
  const std::uint64_t begin = raw.data_offsets.front();
  const std::uint64_t end = raw.data_offsets.back();
  const Dtype dtype = read_dtype(raw, file_name);
  if (end < begin) {
    fail_tensor(
        file_name, raw.name, fmt::format("ends at byte {} before its begin {}", end, begin));
  }
  std::uint64_t bytes = item_bytes(dtype);
  for (const std::int64_t dim : raw.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(dim), &bytes)) {
      fail_tensor(
          file_name,
          raw.name,
          fmt::format("has shape [{}], more bytes than 64 bits count", fmt::join(raw.shape, ", ")));
    }
  }
  if (bytes != end - begin) {
    fail_tensor(file_name,
                raw.name,
                fmt::format("has {} bytes of data, but {} [{}] takes {}",
                            end - begin,
                            raw.dtype,
                            fmt::join(raw.shape, ", "),
                            bytes));
  }
  return {.name = std::move(raw.name),
          .dtype = dtype,
          .shape = std::move(raw.shape),
          .file = 0,
          .offset = begin,
          .bytes = bytes};
}

/// Tensors must fill the data part exactly: no hole, no overlap, nothing after the last one. Bytes
/// that no tensor owns could make the file a second format at the same time.
void check_layout(const std::vector<TensorInfo>& tensors,
                  std::uint64_t data_bytes,
                  std::string_view file_name) {
  std::uint64_t expected = 0;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.offset != expected) {
      fail_tensor(file_name,
                  tensor.name,
                  fmt::format("begins at byte {}, which {} the tensor before it that ends at {}",
                              tensor.offset,
                              tensor.offset < expected ? "overlaps" : "leaves a hole after",
                              expected));
    }
    expected += tensor.bytes;  // no overflow: it is the tensor's end in the header
    if (expected > data_bytes) {
      fail_tensor(file_name,
                  tensor.name,
                  fmt::format("ends at byte {} past the file's {} bytes of data; the file is "
                              "truncated or its header is wrong",
                              expected,
                              data_bytes));
    }
  }
  if (expected != data_bytes) {
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("{}: the tensors end at byte {}, but the file has {} bytes of data",
                            file_name,
                            expected,
                            data_bytes),
                std::string(file_name));
  }
}

}  // namespace

std::uint64_t safetensors_header_bytes(std::string_view prefix,
                                       std::uint64_t file_bytes,
                                       std::string_view file_name) {
  const auto fail = [&](const std::string& text) {
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("{}: {}", file_name, text),
                std::string(file_name));
  };
  if (prefix.size() < kLengthBytes || file_bytes < kLengthBytes) {
    fail(fmt::format("{} bytes are too few for a safetensors file", file_bytes));
  }
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) {  // little endian
    length = length << 8 | static_cast<unsigned char>(prefix[i]);
  }
  if (prefix.starts_with("version ")) {
    fail("is a Git LFS pointer, not the weights; run `git lfs pull` before packing the archive");
  }
  if (length > kMaxSafetensorsHeaderBytes) {
    fail(
        fmt::format("claims a safetensors header of {} bytes, expected at most {}; it is probably "
                    "no safetensors file",
                    length,
                    kMaxSafetensorsHeaderBytes));
  }
  if (length > file_bytes - kLengthBytes) {
    fail(
        fmt::format("claims a safetensors header of {} bytes, but the file has only {} bytes; it "
                    "is truncated",
                    length,
                    file_bytes));
  }
  return length;
}

std::vector<TensorInfo> parse_safetensors_header(std::string_view json,
                                                 std::uint64_t file_bytes,
                                                 std::string_view file_name,
                                                 std::size_t max_tensors) {
  HeaderReader reader(file_name, max_tensors);
  parse_json_object(json, reader);
  check_format(reader.format(), file_name);

  std::vector<TensorInfo> tensors;
  tensors.reserve(reader.tensors().size());
  for (RawTensor& raw : reader.tensors()) {
    tensors.push_back(check_tensor(std::move(raw), file_name));
  }
  // An empty tensor shares its offset with the next one and comes first; the sort is stable so that
  // equal headers always list their tensors in the same order.
  std::ranges::stable_sort(
      tensors, {}, [](const TensorInfo& tensor) { return std::pair(tensor.offset, tensor.bytes); });
  const std::uint64_t data_begin = kLengthBytes + json.size();
  check_layout(tensors, file_bytes - data_begin, file_name);
  for (TensorInfo& tensor : tensors) {
    tensor.offset += data_begin;
  }
  return tensors;
}

}  // namespace onnxferry
