#include "pipeline/weights_cache.h"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/output/sha256.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLeaving = "leaving-";

class Lock {
 public:
  explicit Lock(int descriptor = -1) : descriptor_(descriptor) {}
  ~Lock() {
    if (descriptor_ >= 0) {
      ::close(descriptor_);
    }
  }
  Lock(Lock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Lock& operator=(Lock&&) = delete;
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  explicit operator bool() const { return descriptor_ >= 0; }
  [[nodiscard]] int release() { return std::exchange(descriptor_, -1); }

 private:
  int descriptor_;
};

Lock lock_path(const fs::path& path, int flags, int operation) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  if (descriptor >= 0 && ::flock(descriptor, operation) != 0) {
    ::close(descriptor);
    return Lock();
  }
  return Lock(descriptor);
}

/// Held shortly around every look at the directory's entries.
Lock lock_directory(const fs::path& directory) {
  return lock_path(directory / "lock", O_RDWR | O_CREAT, LOCK_EX);
}

struct Entry {
  fs::path path;
  std::string key;
  std::uint64_t bytes = 0;
  fs::file_time_type last_use;
};

/// Least recently used first. What a dead process left half removed is removed on the way.
std::vector<Entry> list_entries(const fs::path& directory) {
  std::vector<Entry> entries;
  std::error_code error;
  for (const fs::directory_entry& item : fs::directory_iterator(directory, error)) {
    const std::string name = item.path().filename().string();
    if (name.starts_with(kLeaving)) {
      fs::remove_all(item.path(), error);
      continue;
    }
    const std::size_t dot = name.find('.');
    if (dot == std::string::npos) {
      continue;
    }
    Entry entry{.path = item.path(), .key = name.substr(0, dot), .bytes = 0, .last_use = {}};
    std::from_chars(name.data() + dot + 1, name.data() + name.size(), entry.bytes);
    entry.last_use = fs::last_write_time(item.path(), error);
    entries.push_back(std::move(entry));
  }
  std::ranges::sort(entries, {}, &Entry::last_use);
  return entries;
}

/// \pre the directory's lock is held. \return whether nobody read it, so that it is gone
bool remove_entry(const Entry& entry) {
  const Lock unused = lock_path(entry.path, O_RDONLY | O_DIRECTORY, LOCK_EX | LOCK_NB);
  if (!unused) {
    return false;
  }
  // Renamed first: an entry is there as a whole or not at all.
  const fs::path leaving = entry.path.parent_path() / (std::string(kLeaving) + entry.key);
  std::error_code error;
  fs::rename(entry.path, leaving, error);
  fs::remove_all(leaving, error);
  return !error;
}

std::uint64_t bytes_below(const fs::path& directory) {
  std::uint64_t bytes = 0;
  for (const fs::directory_entry& item : fs::recursive_directory_iterator(directory)) {
    bytes += item.is_regular_file() ? item.file_size() : 0;
  }
  return bytes;
}

}  // namespace

WeightsCache::WeightsCache(fs::path directory, std::uint64_t max_bytes, std::string store)
    : directory_(std::move(directory)), max_bytes_(max_bytes), store_(std::move(store)) {}

WeightsCache::Lease::Lease(Lease&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}

WeightsCache::Lease::~Lease() {
  if (lock_ >= 0) {
    ::close(lock_);
  }
}

std::string WeightsCache::key(const SourceIdentity& source) const {
  const ObjectInfo& info = source.info;
  return sha256_hex(
      fmt::format("{}\n{}\n{}\n{}\n{}", store_, source.uri, info.etag, info.version, info.bytes));
}

std::optional<WeightsCache::Lease> WeightsCache::find(const SourceIdentity& source) {
  if (source.info.etag.empty()) {
    return std::nullopt;  // nothing tells one version of the object from the next
  }
  const Lock lock = lock_directory(directory_);
  if (!lock) {
    return std::nullopt;
  }
  const std::vector<Entry> entries = list_entries(directory_);
  const auto entry = std::ranges::find(entries, key(source), &Entry::key);
  if (entry == entries.end()) {
    return std::nullopt;
  }
  Lock in_use = lock_path(entry->path, O_RDONLY | O_DIRECTORY, LOCK_SH);
  if (!in_use) {
    return std::nullopt;
  }
  ::utimensat(AT_FDCWD, entry->path.c_str(), nullptr, 0);
  return Lease(entry->path, in_use.release());
}

void WeightsCache::keep(const SourceIdentity& source, const fs::path& directory) {
  if (source.info.etag.empty()) {
    return;
  }
  std::error_code error;
  fs::create_directories(directory_, error);
  fs::permissions(directory_, fs::perms::owner_all, error);
  const Lock lock = lock_directory(directory_);
  if (!lock) {
    return;
  }
  const std::uint64_t bytes = bytes_below(directory);
  std::vector<Entry> entries = list_entries(directory_);
  const std::string name = key(source);
  if (bytes > max_bytes_ || std::ranges::find(entries, name, &Entry::key) != entries.end()) {
    return;
  }
  std::uint64_t used = 0;
  for (const Entry& entry : entries) {
    used += entry.bytes;
  }
  for (const Entry& entry : entries) {
    if (used + bytes <= max_bytes_) {
      break;
    }
    used -= remove_entry(entry) ? entry.bytes : 0;
  }
  if (used + bytes <= max_bytes_) {
    const fs::path path = directory_ / fmt::format("{}.{}", name, bytes);
    fs::rename(directory, path, error);
    ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
  }
}

void WeightsCache::forget(const SourceIdentity& source) {
  const Lock lock = lock_directory(directory_);
  if (!lock) {
    return;
  }
  for (const Entry& entry : list_entries(directory_)) {
    if (entry.key == key(source)) {
      remove_entry(entry);
    }
  }
}

void WeightsCache::make_room(std::uint64_t bytes) {
  const Lock lock = lock_directory(directory_);
  if (!lock) {
    return;
  }
  for (const Entry& entry : list_entries(directory_)) {
    std::error_code error;
    if (fs::space(directory_, error).available >= bytes) {
      return;
    }
    remove_entry(entry);
  }
}

}  // namespace onnxferry
