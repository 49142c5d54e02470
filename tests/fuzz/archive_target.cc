#include <cstdlib>
#include <filesystem>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/archive/archive.h"
#include "pipeline/error.h"
#include "tests/fuzz/targets.h"

namespace onnxferry::fuzz {
namespace {

namespace fs = std::filesystem;

class Quiet final : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t /*done*/, std::uint64_t /*total*/) override {}
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view /*reason*/) override {}
  [[nodiscard]] bool is_cancelled() const override { return false; }
};

/// A directory in memory if the host has one: millions of runs should not wear a disk.
class Place {
 public:
  Place() {
    std::string name = fs::exists("/dev/shm") ? "/dev/shm" : fs::temp_directory_path().string();
    name += "/onnxferry-fuzz-XXXXXX";
    FUZZ_CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// The input as a file that never touches a directory.
class MemoryFile {
 public:
  explicit MemoryFile(Input input) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    FUZZ_CHECK(fd_ >= 0);
    FUZZ_CHECK(::write(fd_, input.data(), input.size()) == static_cast<ssize_t>(input.size()));
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(fd_); }
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace

/// Whatever the archive holds: plain files and directories below one directory, within the limits,
/// and exactly those that are reported.
void fuzz_archive(Input input) {
  static const Place place;
  const MemoryFile file(input);
  const fs::path into = place.path() / "job";
  fs::create_directory(into);
  ArchiveLimits limits;
  limits.max_entries = 200;
  limits.max_file_bytes = 1U << 20;
  limits.max_metadata_file_bytes = 1U << 18;
  limits.max_total_bytes = 2U << 20;
  Quiet observer;
  StageScope scope(Stage::kExtract, observer);
  try {
    const ExtractedArchive result = extract_archive(file.path(), into, limits, scope);
    FUZZ_CHECK(result.bytes <= limits.max_total_bytes);
    for (const std::string& name : result.files) {
      FUZZ_CHECK(fs::is_regular_file(fs::symlink_status(result.model_root / name)));
    }
  } catch (const Error& error) {
    FUZZ_CHECK(error.code() != ErrorCode::kInternal);
  }
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(into)) {
    const fs::file_status status = entry.symlink_status();
    FUZZ_CHECK(fs::is_regular_file(status) || fs::is_directory(status));
    bytes += fs::is_regular_file(status) ? entry.file_size() : 0;
  }
  FUZZ_CHECK(bytes <= 2 * limits.max_total_bytes);
  fs::remove_all(into);
  FUZZ_CHECK(fs::is_empty(place.path()));
}

}  // namespace onnxferry::fuzz
