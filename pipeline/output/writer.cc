#include "pipeline/output/writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>

#include "pipeline/error.h"
#include "pipeline/output/disk_file.h"
#include "pipeline/output/hash_thread.h"
#include "pipeline/output/sha256.h"
#include "pipeline/weights/evaluator.h"

namespace onnxferry {
namespace {

// Small enough to stay in a core's own cache from evaluation to hash and write: 8 MiB buffers cost
// up to twice the processor time.
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
// Evaluation comes in bursts (a strip is read before its first byte goes out): the hash thread has
// this much to go on with.
constexpr std::size_t kBuffers = 16;

std::uint64_t segment_bytes(const Segment& segment) {
  if (const auto* bytes = std::get_if<std::string>(&segment)) {
    return bytes->size();
  }
  return byte_size(std::get<Recipe>(segment));
}

/// One file being written, as the evaluator sees it. Full buffers are hashed by the hash thread and
/// written by this one at the same time; a file that fits in one buffer is hashed here instead.
class FileSink : public ByteSink {
 public:
  FileSink(const DiskFile& file, StageScope& scope, PageBuffer& buffer)
      : file_(file), scope_(scope), buffer_(&buffer) {}
  FileSink(const DiskFile& file, StageScope& scope, HashThread& thread)
      : file_(file), scope_(scope), buffer_(&thread.take()), thread_(&thread) {}
  FileSink(const FileSink&) = delete;
  FileSink& operator=(const FileSink&) = delete;
  ~FileSink() override {
    if (thread_ != nullptr) {
      thread_->abandon();  // it must not touch hash_ any more
    }
  }

  std::span<std::byte> window(std::size_t at_least) override {
    if (buffer_->bytes().size() - used_ < at_least) {
      flush();
    }
    return buffer_->bytes().subspan(used_);
  }

  void advance(std::size_t count) override { used_ += count; }

  void put(std::string_view bytes) {
    while (!bytes.empty()) {
      const std::span<std::byte> to = window(1);
      const std::size_t count = std::min(to.size(), bytes.size());
      std::memcpy(to.data(), bytes.data(), count);
      advance(count);
      bytes.remove_prefix(count);
    }
  }

  /// Get the rest into the file. \return its sha256
  std::string finish() {
    flush();
    if (thread_ != nullptr) {
      thread_->drain();
    }
    return hash_.finish();
  }

  [[nodiscard]] std::uint64_t written() const { return written_; }

 private:
  void flush() {
    const std::span<const std::byte> bytes = buffer_->bytes().first(used_);
    if (thread_ != nullptr) {
      thread_->submit(*buffer_, used_, hash_);
    } else {
      hash_.update(bytes);
    }
    file_.write(bytes);
    written_ += used_;
    scope_.add_bytes(std::exchange(used_, 0));
    if (thread_ != nullptr) {
      buffer_ = &thread_->take();
    }
  }

  const DiskFile& file_;
  StageScope& scope_;
  PageBuffer* buffer_;
  HashThread* thread_ = nullptr;
  Sha256 hash_;
  std::size_t used_ = 0;
  std::uint64_t written_ = 0;
};

/// Writes files one after the other; threads and buffers are made when a file first needs them.
class Writer {
 public:
  Writer(const TensorSource& source, const std::filesystem::path& directory, StageScope& scope)
      : evaluator_(source), directory_(directory), scope_(scope) {}

  FileReport write(const PlannedFile& plan) {
    const std::uint64_t free_bytes = find_free_bytes();
    try {
      return write_file(plan);
    } catch (const std::filesystem::filesystem_error& error) {
      throw to_error(plan, error, free_bytes);
    }
  }

 private:
  FileReport write_file(const PlannedFile& plan) {
    const std::uint64_t bytes = plan.bytes();
    const std::filesystem::path path = directory_ / plan.name;
    std::filesystem::create_directories(path.parent_path());
    DiskFile file(path, O_WRONLY | O_CREAT | O_EXCL);
    if (bytes > kBufferBytes) {
      file.reserve(bytes);
      if (!hash_thread_) {
        hash_thread_.emplace(kBuffers, kBufferBytes);
      }
      FileSink sink(file, scope_, *hash_thread_);
      return fill(plan, file, sink);
    }
    if (!small_buffer_ || small_buffer_->bytes().size() < bytes) {
      small_buffer_.emplace(static_cast<std::size_t>(bytes));
    }
    FileSink sink(file, scope_, *small_buffer_);
    return fill(plan, file, sink);
  }

  FileReport fill(const PlannedFile& plan, DiskFile& file, FileSink& sink) {
    for (const Segment& segment : plan.segments) {
      if (const auto* bytes = std::get_if<std::string>(&segment)) {
        sink.put(*bytes);
      } else {
        evaluator_.run(std::get<Recipe>(segment), sink);
      }
    }
    FileReport report{plan.name, plan.bytes(), sink.finish(), plan.kind};
    EXPORT_CHECK(sink.written() == report.bytes, "a file has not its planned size");
    file.set_mode(0644);
    file.close();
    return report;
  }

  [[nodiscard]] std::uint64_t find_free_bytes() const {
    struct statvfs info{};
    if (::statvfs(directory_.c_str(), &info) != 0) {
      return 0;
    }
    return std::uint64_t{info.f_bavail} * info.f_frsize;
  }

  static Error to_error(const PlannedFile& plan,
                        const std::filesystem::filesystem_error& error,
                        std::uint64_t free_bytes) {
    const int code = error.code().value();
    if (code == ENOSPC || code == EDQUOT || code == EFBIG) {
      return {ErrorCode::kResourceExhausted,
              fmt::format("the disk is full: {} needs {} bytes, {} were free before it ({}); give "
                          "the scratch directory more space or a higher limit",
                          plan.name,
                          plan.bytes(),
                          free_bytes,
                          error.code().message()),
              plan.name};
    }
    return {ErrorCode::kInternal,
            fmt::format("writing {} failed: {}", plan.name, error.code().message()),
            plan.name};
  }

  Evaluator evaluator_;
  const std::filesystem::path& directory_;
  StageScope& scope_;
  std::optional<PageBuffer> small_buffer_;
  std::optional<HashThread> hash_thread_;
};

}  // namespace

std::uint64_t PlannedFile::bytes() const {
  std::uint64_t total = 0;
  for (const Segment& segment : segments) {
    EXPORT_CHECK(!__builtin_add_overflow(total, segment_bytes(segment), &total),
                 "a planned file's size overflows 64 bits");
  }
  return total;
}

std::vector<FileReport> write_files(const std::vector<PlannedFile>& files,
                                    const TensorSource& source,
                                    const std::filesystem::path& directory,
                                    StageScope& scope) {
  Writer writer(source, directory, scope);
  std::vector<FileReport> reports;
  reports.reserve(files.size());
  for (const PlannedFile& file : files) {
    reports.push_back(writer.write(file));
  }
  return reports;
}

}  // namespace onnxferry
