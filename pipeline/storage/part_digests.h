#pragma once

#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "pipeline/storage/file_window.h"
#include "pipeline/storage/md5_lanes.h"
#include "pipeline/storage/s3_request.h"
#include "pipeline/storage/upload.h"

namespace onnxferry {

/// Computes the digests of parts in order, ahead of the transfers, on a thread of its own. Eight
/// parts of one size are read side by side (Md5Lanes). It stays at most two such groups ahead, so
/// that what it has read is still in the page cache when it is sent.
/// Memory: 2 MiB, most of it pages of the files. Thread: the one that runs the transfers.
class DigestThread {
 public:
  /// \param parts  in the order in which they are sent; they outlive this
  DigestThread(S3Connection& connection, std::vector<UploadPart*> parts);
  DigestThread(const DigestThread&) = delete;
  DigestThread& operator=(const DigestThread&) = delete;
  ~DigestThread() = default;

  /// The next part, with its digests; null: not ready yet, S3Connection::wakeup tells when it is.
  /// \throws Error{kInternal} if a file became shorter
  UploadPart* next();
  [[nodiscard]] bool is_exhausted() const { return taken_ == parts_.size(); }

 private:
  void work(const std::stop_token& stop) noexcept;
  bool wait_for_room(const std::stop_token& stop, std::size_t next);
  [[nodiscard]] std::size_t group_size(std::size_t first) const;
  void digest_one(UploadPart& part, const std::stop_token& stop);
  void digest_lanes(std::span<UploadPart* const> group, const std::stop_token& stop);
  std::string_view show(FileWindow& window, const UploadPart& part, std::uint64_t from) const;

  S3Connection& connection_;
  const std::vector<UploadPart*> parts_;
  const bool needs_sha256_;
  const UploadChecksum checksum_;
  std::array<FileWindow, Md5Lanes::kLanes> windows_;  // of the thread
  std::mutex mutex_;  // guards what follows; of taken_ only the writing
  std::condition_variable_any has_room_;
  std::size_t ready_ = 0;
  std::size_t taken_ = 0;
  std::exception_ptr failure_;
  std::jthread thread_;  // last: it uses all of the above
};

/// The header that carries this checksum, e.g. "x-amz-checksum-crc32c"; empty for kNone.
std::string_view checksum_header(UploadChecksum kind);
/// The value of that header. \pre not kAuto
std::string checksum_value(UploadChecksum kind, std::string_view bytes);

}  // namespace onnxferry
