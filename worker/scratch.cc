#include "worker/scratch.h"

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "pipeline/error.h"
#include "worker/log.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxSlots = 1024;

[[noreturn]] void throw_unusable(const fs::path& path, int error) {
  throw Error(ErrorCode::kResourceExhausted,
              fmt::format("scratch {}: {}; expected a directory that this user may write, set "
                          "--scratch",
                          path.string(),
                          std::system_category().message(error)),
              path.string());
}

/// A locked descriptor, or -1 while another process holds the lock.
int try_lock(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    throw_unusable(path, errno);
  }
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor);
    return -1;
  }
  return descriptor;
}

void remove_quietly(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) {
    log(LogLevel::kWarn,
        "cannot remove scratch files; remove them by hand",
        {{"path", path.string()}, {"error", error.message()}});
  }
}

std::string job_prefix(int slot) {
  return fmt::format("slot-{}-job-", slot);
}

/// Job directories of an owner that is gone. \pre the slot's lock is held
void sweep(const fs::path& root, int slot) {
  std::vector<fs::path> left;
  for (const fs::directory_entry& entry : fs::directory_iterator(root)) {
    if (entry.path().filename().string().starts_with(job_prefix(slot))) {
      left.push_back(entry.path());
    }
  }
  for (const fs::path& path : left) {
    remove_quietly(path);
  }
}

}  // namespace

Scratch::Scratch(fs::path root) : root_(std::move(root)) {
  std::error_code error;
  fs::create_directories(root_, error);
  if (error) {
    throw_unusable(root_, error.value());
  }
  for (int slot = 0; slot < kMaxSlots; ++slot) {
    const fs::path lock_path = root_ / fmt::format("slot-{}.lock", slot);
    const bool is_taken = slot_ >= 0;
    if (is_taken && !fs::exists(lock_path, error)) {
      break;  // slots are taken in order: no further one was ever used
    }
    const int lock = try_lock(lock_path);
    if (lock < 0) {
      continue;
    }
    sweep(root_, slot);
    if (is_taken) {
      ::close(lock);
      continue;
    }
    slot_ = slot;
    lock_ = lock;
  }
  EXPORT_CHECK(slot_ >= 0, "no free scratch slot");
}

Scratch::~Scratch() {
  sweep(root_, slot_);
  ::close(lock_);
}

fs::path Scratch::make_job_directory() {
  fs::path path = root_ / (job_prefix(slot_) + std::to_string(next_job_++));
  if (::mkdir(path.c_str(), 0700) != 0) {
    throw_unusable(path, errno);
  }
  return path;
}

void Scratch::remove_job_directory(const fs::path& directory) {
  remove_quietly(directory);
}

std::uint64_t Scratch::free_bytes() const {
  struct statvfs status{};
  if (::statvfs(root_.c_str(), &status) != 0 || ::access(root_.c_str(), W_OK) != 0) {
    return 0;
  }
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

}  // namespace onnxferry
