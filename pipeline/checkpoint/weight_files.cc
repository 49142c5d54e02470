#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/checkpoint/index.h"
#include "pipeline/checkpoint/safetensors.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr std::uint64_t kMaxIndexBytes = 100'000'000;

std::string reason(int error) {
  return std::generic_category().message(error);
}

/// An open weight file. Read with pread and never mapped: a file that is truncated while we work is
/// then an Error instead of a SIGBUS.
class File {
 public:
  explicit File(const fs::path& path) : name_(path.filename().string()) {
    // O_NONBLOCK: opening a FIFO must not hang; it means nothing for regular files.
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd_ < 0) {
      fail_open(errno);
    }
    struct stat status{};
    if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
      ::close(fd_);
      throw Error(
          ErrorCode::kCorruptCheckpoint, fmt::format("{} is not a regular file", name_), name_);
    }
    bytes_ = static_cast<std::uint64_t>(status.st_size);
    ::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);  // advice only; a failure changes nothing
  }
  File(File&& other) noexcept
      : name_(std::move(other.name_)), fd_(std::exchange(other.fd_, -1)), bytes_(other.bytes_) {}
  File& operator=(File&&) = delete;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

  /// \param what  names what is read in messages, e.g. the tensor
  void read(std::uint64_t offset, std::span<std::byte> out, const std::string& what) const {
    while (!out.empty()) {
      const ssize_t count = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) {
        continue;
      }
      if (count < 0) {
        throw Error(
            ErrorCode::kResourceExhausted,
            fmt::format("{}: cannot read {} at byte {}: {}", name_, what, offset, reason(errno)),
            name_);
      }
      if (count == 0) {
        throw Error(ErrorCode::kCorruptCheckpoint,
                    fmt::format("{}: {} ends early: no data at byte {} of a file that had {} bytes "
                                "when it was opened; something else is changing it",
                                name_,
                                what,
                                offset,
                                bytes_),
                    name_);
      }
      offset += static_cast<std::uint64_t>(count);
      out = out.subspan(static_cast<std::size_t>(count));
    }
  }

  [[nodiscard]] std::string read_text(std::uint64_t offset, std::uint64_t bytes) const {
    std::string text(bytes, '\0');
    read(offset, std::as_writable_bytes(std::span(text)), "the header");
    return text;
  }

 private:
  [[noreturn]] void fail_open(int error) const {
    switch (error) {
      case ENOENT:
        throw Error(ErrorCode::kCorruptCheckpoint, fmt::format("{} is missing", name_), name_);
      case EACCES:
        throw Error(ErrorCode::kPermissionDenied,
                    fmt::format("{}: the file may not be read by this user", name_),
                    name_);
      case EMFILE:
      case ENFILE:
      case ENOMEM:
        throw Error(ErrorCode::kResourceExhausted,
                    fmt::format("{}: {}; raise the limit on open files", name_, reason(error)),
                    name_);
      default:
        throw Error(ErrorCode::kCorruptCheckpoint,
                    fmt::format("{} cannot be opened: {}", name_, reason(error)),
                    name_);
    }
  }

  std::string name_;
  int fd_ = -1;
  std::uint64_t bytes_ = 0;
};

/// What to open: one file, or an index with its shards.
struct Choice {
  std::string file;
  bool is_index = false;
};

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

/// "fp16" of model.fp16.safetensors or model.safetensors.index.fp16.json, as
/// `from_pretrained(variant=…)` names files; empty if `name` is neither.
std::string_view variant_of(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kForms = {
      {{"model.safetensors.index.", ".json"}, {"model.", ".safetensors"}}};
  for (const auto& [prefix, suffix] : kForms) {
    if (name.size() > prefix.size() + suffix.size() && name.starts_with(prefix) &&
        name.ends_with(suffix)) {
      const std::string_view variant =
          name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
      const bool is_shard = variant.find("-of-") != std::string_view::npos;
      return is_shard || variant.find('.') != std::string_view::npos ? std::string_view() : variant;
    }
  }
  return {};
}

[[noreturn]] void fail_unsupported(std::string text, std::string subject) {
  throw Error(ErrorCode::kUnsupportedModel, std::move(text), std::move(subject));
}

/// No file that from_pretrained would load: say what is there instead.
[[noreturn]] void fail_without_weights(const std::vector<std::string>& names) {
  const auto find = [&](auto&& matches) -> std::optional<std::string> {
    const auto at = std::ranges::find_if(names, matches);
    return at == names.end() ? std::nullopt : std::optional(*at);
  };
  const auto ends_with_any = [](std::string_view name,
                                std::initializer_list<const char*> suffixes) {
    return std::ranges::any_of(suffixes,
                               [&](const char* suffix) { return name.ends_with(suffix); });
  };
  if (const auto shard = find([](const std::string& name) {
        return name.starts_with("model") && name.find("-of-") != std::string::npos &&
               name.ends_with(".safetensors");
      })) {
    throw Error(
        ErrorCode::kCorruptCheckpoint,
        fmt::format("found {} but no {}; pack the index with its shards", *shard, kIndexFile),
        std::string(kIndexFile));
  }
  if (const auto other =
          find([](const std::string& name) { return name.ends_with(".safetensors"); })) {
    fail_unsupported(fmt::format("found {} but no {}; only files that transformers' "
                                 "from_pretrained loads are read",
                                 *other,
                                 kSingleFile),
                     *other);
  }
  if (const auto other = find([&](const std::string& name) {
        return ends_with_any(
            name, {".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack"});
      })) {
    fail_unsupported(
        fmt::format("found {} but no {}; convert the model to safetensors first (save_pretrained "
                    "in transformers writes it)",
                    *other,
                    kSingleFile),
        *other);
  }
  throw Error(
      ErrorCode::kCorruptCheckpoint,
      fmt::format("the model directory has no weights; expected {} or {}", kSingleFile, kIndexFile),
      std::string(kSingleFile));
}

/// The choice and order of transformers: model.safetensors, then the index. Where neither is there
/// but exactly one variant, `from_pretrained(variant=…)` would load that one.
Choice choose(const std::vector<std::string>& names) {
  const auto has = [&](std::string_view name) { return std::ranges::binary_search(names, name); };
  for (const std::string& name : names) {
    // Even beside full weights: transformers would apply the adapter, so exporting without it would
    // be another model.
    if (name == "adapter_config.json" || name.starts_with("adapter_model.")) {
      fail_unsupported(fmt::format("{} makes this an adapter; merge it into its base model first "
                                   "(merge_and_unload in peft) and pack the merged model",
                                   name),
                       name);
    }
  }
  if (has(kSingleFile)) {
    return {std::string(kSingleFile), false};
  }
  if (has(kIndexFile)) {
    return {std::string(kIndexFile), true};
  }
  std::vector<std::string> variants;
  std::ranges::copy_if(names, std::back_inserter(variants), [](const std::string& name) {
    return !variant_of(name).empty();
  });
  if (variants.size() > 1) {
    fail_unsupported(fmt::format("found {} and no {}; keep one of them so that the choice is clear",
                                 fmt::join(variants, ", "),
                                 kSingleFile),
                     variants.front());
  }
  if (variants.empty()) {
    fail_without_weights(names);
  }
  return {variants.front(), variants.front().ends_with(".json")};
}

std::vector<TensorInfo> read_header(const File& file) {
  const std::string prefix = file.read_text(0, std::min<std::uint64_t>(file.bytes(), 8));
  const std::uint64_t length = safetensors_header_bytes(prefix, file.bytes(), file.name());
  return parse_safetensors_header(file.read_text(8, length), file.bytes(), file.name());
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
  std::vector<File> files;
  std::vector<std::string> file_names;  // of `files`, then the index if there is one
  std::vector<TensorInfo> tensors;
  std::unordered_map<std::string_view, const TensorInfo*> by_name;

  void add_file(const fs::path& path) {
    const auto number = static_cast<std::uint32_t>(files.size());
    const File& file = files.emplace_back(path);
    file_names.push_back(file.name());
    for (TensorInfo& tensor : read_header(file)) {
      tensor.file = number;
      tensors.push_back(std::move(tensor));
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
  const Choice choice = choose(list_names(directory));
  auto impl = std::make_unique<Impl>();
  if (!choice.is_index) {
    impl->add_file(directory / choice.file);
    impl->index_names();
    return WeightFiles(std::move(impl));
  }
  const File index_file(directory / choice.file);
  if (index_file.bytes() > kMaxIndexBytes) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("{} has {} bytes, expected at most {}",
                            choice.file,
                            index_file.bytes(),
                            kMaxIndexBytes),
                choice.file);
  }
  const ShardIndex index =
      parse_shard_index(index_file.read_text(0, index_file.bytes()), choice.file);
  for (const std::string& shard : index.shards) {
    impl->add_file(directory / shard);
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
  impl_->files[tensor.file].read(
      tensor.offset + offset, out, fmt::format("tensor {:?}", tensor.name));
}

}  // namespace onnxferry
