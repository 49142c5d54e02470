#include <algorithm>
#include <memory>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/checkpoint/index.h"
#include "pipeline/checkpoint/safetensors.h"
#include "pipeline/checkpoint/torch_file.h"
#include "pipeline/checkpoint/weight_choice.h"
#include "pipeline/checkpoint/weight_file.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxIndexBytes = 100'000'000;

std::vector<std::string> list_names(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) {
    throw Error(ErrorCode::kSourceNotFound,
                fmt::format("the model directory cannot be listed: {}", error.message()),
                directory.filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::vector<TensorInfo> read_header(const WeightFile& file, WeightChoice::Format format) {
  if (format == WeightChoice::Format::kTorch) {
    return read_torch_file(file);
  }
  const std::uint64_t bytes = file.file_bytes();
  const std::string prefix = file.read_text(0, std::min<std::uint64_t>(bytes, 8));
  const std::uint64_t length = safetensors_header_bytes(prefix, bytes, file.name());
  return parse_safetensors_header(file.read_text(8, length), bytes, file.name());
}

}  // namespace

std::uint64_t element_count(std::span<const std::int64_t> shape) {
  std::uint64_t count = 1;
  for (const std::int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(count, static_cast<std::uint64_t>(dim), &count)) {
      throw Error(
          ErrorCode::kCorruptCheckpoint,
          fmt::format("shape [{}] has no countable number of elements", fmt::join(shape, ", ")));
    }
  }
  return count;
}

struct WeightFiles::Impl {
  std::vector<std::unique_ptr<WeightFile>> files;
  std::vector<std::string> file_names;  // of `files`, then the index if there is one
  std::vector<TensorInfo> tensors;
  std::unordered_map<std::string_view, const TensorInfo*> by_name;

  void add_file(const fs::path& path, WeightChoice::Format format) {
    const auto number = static_cast<std::uint32_t>(files.size());
    const WeightFile& file = *files.emplace_back(std::make_unique<WeightFile>(path));
    file_names.push_back(file.name());
    std::vector<TensorInfo> read = read_header(file, format);
    for (TensorInfo& tensor : read) {
      tensor.file = number;
    }
    if (tensors.empty()) {
      tensors = std::move(read);
    } else {
      std::ranges::move(read, std::back_inserter(tensors));
    }
  }

  void index_names() {
    by_name.reserve(tensors.size());
    for (const TensorInfo& tensor : tensors) {
      const auto [at, is_new] = by_name.emplace(tensor.name, &tensor);
      if (!is_new) {
        throw Error(ErrorCode::kCorruptCheckpoint,
                    fmt::format("tensor {:?} is in two shards: {} and {}",
                                tensor.name,
                                file_names[at->second->file],
                                file_names[tensor.file]),
                    tensor.name);
      }
    }
  }

  void check_against(const ShardIndex& index, const std::string& index_name) const {
    for (const TensorInfo& tensor : tensors) {
      const auto at = index.shard_of.find(tensor.name);
      if (at == index.shard_of.end() || at->second != tensor.file) {
        throw Error(ErrorCode::kCorruptCheckpoint,
                    fmt::format("{} holds tensor {:?}, but {} {}",
                                file_names[tensor.file],
                                tensor.name,
                                index_name,
                                at == index.shard_of.end()
                                    ? "does not list it"
                                    : fmt::format("maps it to {}", index.shards[at->second])),
                    tensor.name);
      }
    }
    for (const auto& [name, shard] : index.shard_of) {
      if (!by_name.contains(name)) {
        throw Error(ErrorCode::kCorruptCheckpoint,
                    fmt::format("{} maps tensor {:?} to {}, which does not hold it",
                                index_name,
                                name,
                                index.shards[shard]),
                    name);
      }
    }
  }
};

WeightFiles WeightFiles::open(const fs::path& directory) {
  const WeightChoice choice = choose_weights(list_names(directory));
  auto impl = std::make_unique<Impl>();
  if (!choice.is_index()) {
    impl->add_file(directory / choice.file, choice.format);
    impl->index_names();
    return WeightFiles(std::move(impl));
  }
  const WeightFile index_file(directory / choice.file);
  if (index_file.file_bytes() > kMaxIndexBytes) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("{} has {} bytes, expected at most {}",
                            choice.file,
                            index_file.file_bytes(),
                            kMaxIndexBytes),
                choice.file);
  }
  const ShardIndex index = parse_shard_index(
      index_file.read_text(0, index_file.file_bytes()), choice.file, choice.extension());
  for (const std::string& shard : index.shards) {
    impl->add_file(directory / shard, choice.format);
  }
  impl->index_names();
  impl->check_against(index, choice.file);
  impl->file_names.push_back(choice.file);
  return WeightFiles(std::move(impl));
}

WeightFiles::WeightFiles(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WeightFiles::WeightFiles(WeightFiles&&) noexcept = default;
WeightFiles& WeightFiles::operator=(WeightFiles&&) noexcept = default;
WeightFiles::~WeightFiles() = default;

std::span<const TensorInfo> WeightFiles::tensors() const {
  return impl_->tensors;
}

const TensorInfo* WeightFiles::find(std::string_view name) const {
  const auto at = impl_->by_name.find(name);
  return at == impl_->by_name.end() ? nullptr : at->second;
}

std::span<const std::string> WeightFiles::file_names() const {
  return impl_->file_names;
}

void WeightFiles::read(const TensorInfo& tensor,
                       std::uint64_t offset,
                       std::span<std::byte> out) const {
  EXPORT_CHECK(tensor.file < impl_->files.size(), "tensor of another checkpoint");
  EXPORT_CHECK(offset <= tensor.bytes && out.size() <= tensor.bytes - offset,
               "read past the end of a tensor");
  impl_->files[tensor.file]->read(
      tensor.offset + offset, out, fmt::format("tensor {:?}", tensor.name));
}

}  // namespace onnxferry
