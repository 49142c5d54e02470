#include "pipeline/checkpoint/torch_file.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "pipeline/checkpoint/torch_container.h"
#include "pipeline/error.h"
#include "pipeline/quote.h"

namespace onnxferry {
namespace {

using Kind = Pickle::Kind;

constexpr std::size_t kMaxNameBytes = 1024;

[[noreturn]] void fail(const RandomAccessFile& file,
                       std::string_view what,
                       ErrorCode code = ErrorCode::kCorruptCheckpoint) {
  throw Error(code, fmt::format("{}: {}", file.name(), what), file.name());
}

std::string read_start(const RandomAccessFile& file) {
  constexpr std::size_t kStartBytes = 512;  // a block of a tar
  std::string start(std::min<std::uint64_t>(file.file_bytes(), kStartBytes), '\0');
  if (!file.read_exactly(0, std::as_writable_bytes(std::span(start)))) {
    fail(file, "became shorter while it was read");
  }
  return start;
}

TorchContainer read_container(const RandomAccessFile& file) {
  const std::string start = read_start(file);
  if (start.starts_with("PK")) {
    return read_torch_zip(file);
  }
  if (start.starts_with('\x80')) {
    return read_torch_stream(file);
  }
  constexpr std::size_t kTarMagicOffset = 257;
  if (start.size() > kTarMagicOffset &&
      std::string_view(start).substr(kTarMagicOffset).starts_with("ustar")) {
    fail(file,
         "is a tar, the form of torch before 0.1.10, which is not read; load it and save it again",
         ErrorCode::kUnsupportedModel);
  }
  if (start.starts_with("version ")) {
    fail(file,
         "is a Git LFS pointer, not the weights; run `git lfs pull` before packing the archive");
  }
  fail(file, "is neither a zip nor a pickle; expected what torch.save writes");
}

bool is_row_major(const TorchTensor& tensor) {
  std::int64_t expected = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) {
      return false;
    }
    expected *= tensor.shape[i];  // no overflow: the view is checked
  }
  return true;
}

TensorInfo to_info(std::string name, const TorchTensor& tensor, std::uint64_t storage_offset) {
  const std::uint64_t item = item_bytes(tensor.dtype);
  TensorInfo info{.name = std::move(name), .dtype = tensor.dtype, .shape = tensor.shape};
  info.offset = storage_offset;
  if (std::ranges::find(tensor.shape, 0) != tensor.shape.end()) {
    return info;  // no bytes
  }
  std::uint64_t elements = 1;  // from the first to the last
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    elements += static_cast<std::uint64_t>((tensor.shape[i] - 1) * tensor.strides[i]);
  }
  info.offset += tensor.offset * item;
  info.bytes = elements * item;
  if (!is_row_major(tensor)) {
    info.strides = tensor.strides;
  }
  return info;
}

/// The same names as in safetensors, and ASCII: state dicts are keyed by Python attributes.
void check_name(const RandomAccessFile& file, std::string_view name) {
  const bool is_plain = std::ranges::all_of(
      name, [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c < 0x7F && c > 0; });
  if (name.empty() || name.size() > kMaxNameBytes || !is_plain) {
    fail(file,
         fmt::format("has a tensor name of {} bytes ({}); expected 1 to {} of ASCII",
                     name.size(),
                     quote(name),
                     kMaxNameBytes));
  }
}

/// Numbers and texts beside the tensors are nobody's weights; containers may hold some.
bool is_harmless(Kind kind) {
  return kind != Kind::kDict && kind != Kind::kList && kind != Kind::kTuple && kind != Kind::kSet &&
         kind != Kind::kStorage;
}

class StateDict {
 public:
  StateDict(const RandomAccessFile& file, const TorchContainer& container)
      : file_(file), pickle_(container.pickle), offsets_(container.storage_offsets) {}

  std::vector<TensorInfo> take() {
    const auto* const items = pickle_.find_sequence(pickle_.root);
    if (items == nullptr || pickle_.values.at(pickle_.root).kind != Kind::kDict) {
      fail(file_, "holds no state dict", ErrorCode::kUnsupportedModel);
    }
    for (std::size_t i = 0; i < items->size(); i += 2) {
      take_item((*items)[i], (*items)[i + 1]);
    }
    check_prefix();
    std::ranges::stable_sort(tensors_, {}, [](const TensorInfo& tensor) {
      return std::pair(tensor.offset, tensor.bytes);
    });
    return std::move(tensors_);
  }

 private:
  void take_item(PickleId key, PickleId id) {
    const std::string* const name = pickle_.find_text(key);
    const Pickle::Value value = pickle_.values.at(id);
    if (value.kind != Kind::kTensor) {
      if (!is_harmless(value.kind)) {
        fail(file_,
             fmt::format("holds {} in its place for tensors, as training checkpoints do; "
                         "transformers does not look inside either: save with save_pretrained",
                         name == nullptr ? "a container" : quote(*name)),
             ErrorCode::kUnsupportedModel);
      }
      return;
    }
    if (name == nullptr) {
      fail(file_, "has a tensor under a key that is no text", ErrorCode::kUnsupportedModel);
    }
    check_name(file_, *name);
    if (!names_.insert(*name).second) {
      fail(file_, fmt::format("names tensor {} twice", quote(*name)));
    }
    const TorchTensor& tensor = pickle_.tensors.at(static_cast<std::size_t>(value.number));
    tensors_.push_back(to_info(*name, tensor, offsets_.at(tensor.storage)));
  }

  /// transformers would take none of these for the model's and start from random weights.
  void check_prefix() const {
    constexpr std::string_view kParallel = "module.";
    if (!tensors_.empty() && std::ranges::all_of(tensors_, [&](const TensorInfo& tensor) {
          return tensor.name.starts_with(kParallel);
        })) {
      fail(file_,
           "has the prefix \"module.\" before every name, as DataParallel saves; transformers "
           "would not find them: save model.module instead",
           ErrorCode::kUnsupportedModel);
    }
  }

  const RandomAccessFile& file_;
  const Pickle& pickle_;
  const std::vector<std::uint64_t>& offsets_;
  std::unordered_set<std::string> names_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace

std::vector<TensorInfo> read_torch_file(const RandomAccessFile& file) {
  const TorchContainer container = read_container(file);
  return StateDict(file, container).take();
}

}  // namespace onnxferry
