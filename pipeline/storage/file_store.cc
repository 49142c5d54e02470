#include "pipeline/storage/file_store.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/error.h"
#include "pipeline/storage/file_handle.h"

namespace onnxferry {
namespace {

constexpr std::string_view kTemporaryMark = ".onnxferry-tmp-";
constexpr std::size_t kCopyBytes = 16U << 20U;
constexpr std::size_t kBufferBytes = 1U << 20U;
constexpr unsigned int kNewFileMode = 0666;  // less the umask
constexpr int kMaxRestarts = 3;

ObjectInfo info_from(const struct stat& status) {
  return {.bytes = static_cast<std::uint64_t>(status.st_size),
          .etag = fmt::format("{:x}-{:x}{:08x}",
                              status.st_size,
                              status.st_mtim.tv_sec,
                              static_cast<unsigned long>(status.st_mtim.tv_nsec)),
          .version = {}};
}

ObjectInfo info_of(const FileHandle& file, const std::filesystem::path& path) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) {
    throw file_error(errno, "stat", path, ErrorCode::kSourceNotFound);
  }
  return info_from(status);
}

bool is_absent(int error_number) {
  return error_number == ENOENT || error_number == ENOTDIR;
}

void write_all(const FileHandle& file, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) {
      throw file_error(errno, "write", path, ErrorCode::kInternal);
    }
    bytes.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(written, 0)));
  }
}

/// Copy up to `bytes` through memory. \return 0 at the end of `from`
std::size_t copy_through_memory(const FileHandle& from,
                                const FileHandle& to,
                                const std::filesystem::path& path) {
  std::string buffer(kBufferBytes, '\0');
  ssize_t got = -1;
  do {
    got = ::read(from.get(), buffer.data(), buffer.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    throw file_error(errno, "read", path, ErrorCode::kSourceNotFound);
  }
  const auto count = static_cast<std::size_t>(got);
  write_all(to, std::string_view(buffer).substr(0, count), path);
  return count;
}

/// Copy the next bytes inside the kernel. \return nullopt where the file systems cannot
std::optional<std::size_t> copy_in_kernel(const FileHandle& from,
                                          const FileHandle& to,
                                          const std::filesystem::path& path) {
  const ssize_t copied = ::copy_file_range(from.get(), nullptr, to.get(), nullptr, kCopyBytes, 0);
  if (copied >= 0) {
    return static_cast<std::size_t>(copied);
  }
  if (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP ||
      errno == EPERM || errno == EBADF) {
    return std::nullopt;
  }
  throw file_error(errno, "copy", path, ErrorCode::kInternal);
}

/// Copy the rest of `from` to the end of `to`: shared blocks where the file system can, else inside
/// the kernel, else through memory.
void copy_contents(const FileHandle& from,
                   const FileHandle& to,
                   const std::filesystem::path& path,
                   StageScope& scope) {
  const std::uint64_t bytes = info_of(from, path).bytes;
  scope.check_cancelled();
  if (bytes > 0 && ::ioctl(to.get(), FICLONE, from.get()) == 0) {
    scope.add_bytes(bytes);
    return;
  }
  bool is_kernel_able = true;
  while (true) {
    const std::optional<std::size_t> copied =
        is_kernel_able ? copy_in_kernel(from, to, path) : std::nullopt;
    is_kernel_able = copied.has_value();
    const std::size_t count = copied ? *copied : copy_through_memory(from, to, path);
    if (count == 0) {
      return;
    }
    scope.add_bytes(count);
  }
}

/// A file under a temporary name beside its destination; removed unless published.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& destination) : destination_(destination) {
    static std::atomic<unsigned long> counter = 0;
    std::error_code problem;
    std::filesystem::create_directories(destination.parent_path(), problem);
    if (problem) {
      throw file_error(problem.value(),
                       "create directory",
                       destination.parent_path(),
                       ErrorCode::kDestinationNotFound);
    }
    // A short name of its own: the destination's may already have the greatest length.
    path_ = destination.parent_path() /
            fmt::format("{}{}-{}", kTemporaryMark, ::getpid(), counter.fetch_add(1));
    std::filesystem::remove(path_, problem);  // of a dead process with our id
    file_ = create_to_write(path_, kNewFileMode);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (!is_gone_) {
      ::unlink(path_.c_str());
    }
  }

  [[nodiscard]] const FileHandle& file() const { return file_; }

  void replace_destination() {
    close();
    if (::rename(path_.c_str(), destination_.c_str()) != 0) {
      throw file_error(errno, "write", destination_, ErrorCode::kDestinationNotFound);
    }
    ::unlink(path_.c_str());  // rename leaves both names when they are one file already
    is_gone_ = true;
  }

  /// Take a finished file over as a second name of it. \return false: it must be copied
  bool link_from(const std::filesystem::path& from) {
    const std::string linked = path_.string() + "-link";
    return ::link(from.c_str(), linked.c_str()) == 0 &&
           ::rename(linked.c_str(), path_.c_str()) == 0;
  }

  /// \return false: the destination exists. Exactly one of several callers gets true.
  bool create_destination() {
    close();
    if (::link(path_.c_str(), destination_.c_str()) == 0) {
      return true;  // the second name goes with this object
    }
    if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS || errno == EMLINK) {
      // A file system without hard links.
      is_gone_ =
          ::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, destination_.c_str(), RENAME_NOREPLACE) ==
          0;
      if (is_gone_) {
        return true;
      }
    }
    if (errno != EEXIST) {
      throw file_error(errno, "create", destination_, ErrorCode::kDestinationNotFound);
    }
    return false;
  }

 private:
  void close() {
    if (const int error_number = file_.close(); error_number != 0) {
      throw file_error(error_number, "close", path_, ErrorCode::kInternal);
    }
  }

  const std::filesystem::path& destination_;
  std::filesystem::path path_;
  FileHandle file_;
  bool is_gone_ = false;
};

}  // namespace

std::optional<ObjectInfo> FileStore::head(const std::string& key, StageScope& scope) {
  scope.check_cancelled();
  struct stat status{};
  if (::stat(key.c_str(), &status) != 0) {
    if (is_absent(errno)) {
      return std::nullopt;
    }
    throw file_error(errno, "stat", key, ErrorCode::kSourceNotFound);
  }
  if (!S_ISREG(status.st_mode)) {
    return std::nullopt;  // a directory is a prefix, not an object
  }
  return info_from(status);
}

ObjectInfo FileStore::download(const std::string& key,
                               const std::filesystem::path& to,
                               StageScope& scope) {
  for (int restart = 0; restart <= kMaxRestarts; ++restart) {
    const FileHandle from = open_to_read(key, ErrorCode::kSourceNotFound);
    const ObjectInfo before = info_of(from, key);
    scope.set_total(before.bytes);
    const FileHandle copy = create_to_write(to, 0600);
    try {
      copy_contents(from, copy, key, scope);
    } catch (...) {
      ::unlink(to.c_str());
      throw;
    }
    if (info_of(from, key).etag == before.etag && info_of(copy, to).bytes == before.bytes) {
      return before;
    }
    ::unlink(to.c_str());
  }
  throw Error(ErrorCode::kUnavailable,
              fmt::format("{} changed {} times while it was copied; send the request when its "
                          "writer has finished",
                          key,
                          kMaxRestarts + 1),
              key);
}

std::optional<std::string> FileStore::get(const std::string& key,
                                          std::uint64_t max_bytes,
                                          StageScope& scope) {
  const std::optional<ObjectInfo> info = head(key, scope);
  if (!info) {
    return std::nullopt;
  }
  const FileHandle file = open_to_read(key, ErrorCode::kSourceNotFound);
  std::string bytes;
  std::string buffer(kBufferBytes, '\0');
  while (bytes.size() <= max_bytes) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got == 0) {
      scope.add_bytes(bytes.size());
      return bytes;
    }
    if (got < 0 && errno != EINTR) {
      throw file_error(errno, "read", key, ErrorCode::kSourceNotFound);
    }
    bytes.append(buffer, 0, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  }
  throw Error(ErrorCode::kLimitExceeded,
              fmt::format("{} has {} bytes; at most {} are read", key, info->bytes, max_bytes),
              key);
}

void FileStore::put_file(const std::string& key,
                         const std::filesystem::path& from,
                         std::string_view /*content_type*/,
                         StageScope& scope) {
  const std::filesystem::path destination(key);
  const FileHandle source = open_to_read(from, ErrorCode::kInternal);
  TemporaryFile temporary(destination);
  if (temporary.link_from(from)) {
    scope.add_bytes(std::filesystem::file_size(from));
  } else {
    copy_contents(source, temporary.file(), from, scope);
  }
  temporary.replace_destination();
}

PutResult FileStore::put(const std::string& key,
                         std::string_view bytes,
                         std::string_view /*content_type*/,
                         PutCondition condition,
                         StageScope& scope) {
  scope.check_cancelled();
  const std::filesystem::path destination(key);
  TemporaryFile temporary(destination);
  write_all(temporary.file(), bytes, destination);
  if (condition == PutCondition::kAlways) {
    temporary.replace_destination();
  } else if (!temporary.create_destination()) {
    return PutResult::kExists;
  }
  scope.add_bytes(bytes.size());
  return PutResult::kWritten;
}

void FileStore::remove(const std::string& key, StageScope& scope) {
  scope.check_cancelled();
  if (::unlink(key.c_str()) != 0 && !is_absent(errno)) {
    throw file_error(errno, "remove", key, ErrorCode::kInvalidRequest);
  }
}

std::vector<std::string> FileStore::list(const std::string& prefix, StageScope& scope) {
  scope.check_cancelled();
  const std::filesystem::path start = std::filesystem::path(prefix).parent_path();
  std::vector<std::string> keys;
  std::error_code problem;
  std::filesystem::recursive_directory_iterator entries(start, problem);
  while (!problem && entries != std::filesystem::recursive_directory_iterator()) {
    const std::string path = entries->path().string();
    // Directories off the prefix's way are not entered: "/data" may be large.
    if (entries->is_directory(problem) && !(path + "/").starts_with(prefix) &&
        !prefix.starts_with(path + "/")) {
      entries.disable_recursion_pending();
    } else if (path.starts_with(prefix) && entries->is_regular_file(problem) &&
               !entries->path().filename().string().starts_with(kTemporaryMark)) {
      keys.push_back(path);
    }
    entries.increment(problem);
  }
  if (problem && !is_absent(problem.value())) {
    throw file_error(problem.value(), "list", start, ErrorCode::kSourceNotFound);
  }
  std::ranges::sort(keys);
  return keys;
}

void FileStore::abort_stale_uploads(const std::string& key, StageScope& scope) {
  scope.check_cancelled();
  // Temporary files carry the id of their process; those of processes that live are left alone.
  std::error_code problem;
  const std::filesystem::path directory = std::filesystem::path(key).parent_path();
  for (const auto& entry : std::filesystem::directory_iterator(directory, problem)) {
    const std::string name = entry.path().filename().string();
    int process = 0;
    if (name.starts_with(kTemporaryMark) &&
        std::sscanf(name.c_str() + kTemporaryMark.size(), "%d-", &process) == 1 && process > 0 &&
        !std::filesystem::exists(fmt::format("/proc/{}", process), problem)) {
      std::filesystem::remove(entry.path(), problem);
    }
  }
}

}  // namespace onnxferry
