#include "pipeline/storage/part_digests.h"

#include <algorithm>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/crc.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

// Of each lane: larger ones save nothing more on mapping.
constexpr std::size_t kWindowBytes = 256U << 10U;
constexpr std::size_t kLeastLanes = 3;  // for fewer parts the lanes are no gain
constexpr std::size_t kAhead = Md5Lanes::kLanes;
static_assert(kWindowBytes % Md5Lanes::kBlockBytes == 0);

Crc::Kind crc_kind(UploadChecksum checksum) {
  return checksum == UploadChecksum::kCrc32c ? Crc::Kind::kCrc32c : Crc::Kind::kCrc64Nvme;
}

void set_md5(PartDigests& digests, const Md5& md5) {
  digests.md5 = md5;
  digests.checksum = to_base64(md5);
}

}  // namespace

DigestThread::DigestThread(S3Connection& connection, std::vector<UploadPart*> parts)
    : connection_(connection),
      parts_(std::move(parts)),
      needs_sha256_(connection.signs_payload()),
      checksum_(connection.checksum()),
      thread_([this](const std::stop_token& stop) { work(stop); }) {}

UploadPart* DigestThread::next() {
  const std::scoped_lock lock(mutex_);
  if (failure_) {
    std::rethrow_exception(failure_);
  }
  if (taken_ == ready_) {
    return nullptr;
  }
  has_room_.notify_one();
  return parts_[taken_++];
}

void DigestThread::work(const std::stop_token& stop) noexcept {
  try {
    for (std::size_t first = 0; first < parts_.size();) {
      if (!wait_for_room(stop, first)) {
        return;
      }
      const std::size_t count = group_size(first);
      if (count == 1) {
        digest_one(*parts_[first], stop);
      } else {
        digest_lanes(std::span(parts_).subspan(first, count), stop);
      }
      first += count;
      {
        const std::scoped_lock lock(mutex_);
        ready_ = stop.stop_requested() ? ready_ : first;
      }
      connection_.wakeup();
    }
  } catch (...) {
    {
      const std::scoped_lock lock(mutex_);
      failure_ = std::current_exception();
    }
    connection_.wakeup();
  }
}

/// \return false: told to stop
bool DigestThread::wait_for_room(const std::stop_token& stop, std::size_t next) {
  std::unique_lock lock(mutex_);
  return has_room_.wait(lock, stop, [&] { return next <= taken_ + kAhead; }) &&
         !stop.stop_requested();
}

/// How many parts from `first` on are digested side by side.
std::size_t DigestThread::group_size(std::size_t first) const {
  const std::uint64_t bytes = parts_[first]->bytes;
  // The first part goes alone: it is on its way while the next are digested.
  if (first == 0 || checksum_ != UploadChecksum::kMd5 || bytes % Md5Lanes::kBlockBytes != 0) {
    return 1;
  }
  const std::size_t most = std::min(Md5Lanes::kLanes, parts_.size() - first);
  std::size_t count = 1;
  while (count < most && parts_[first + count]->bytes == bytes) {
    ++count;
  }
  return count < kLeastLanes ? 1 : count;
}

/// The bytes of the part from `from` on, at most a window.
std::string_view DigestThread::show(FileWindow& window,
                                    const UploadPart& part,
                                    std::uint64_t from) const {
  const std::size_t count = std::min<std::uint64_t>(kWindowBytes, part.bytes - from);
  const char* const bytes = window.show(part.upload.file.get(), part.offset + from, count);
  if (bytes == nullptr) {
    throw Error(ErrorCode::kInternal,
                fmt::format("the file for {} became shorter while it was uploaded",
                            connection_.uri(part.upload.key)));
  }
  return {bytes, count};
}

void DigestThread::digest_lanes(std::span<UploadPart* const> group, const std::stop_token& stop) {
  Md5Lanes md5;
  Md5Lanes::Streams streams{};
  const std::uint64_t bytes = group.front()->bytes;
  for (std::uint64_t done = 0; done < bytes && !stop.stop_requested();) {
    const std::string_view first = show(windows_.front(), *group.front(), done);
    streams.fill(first.data());  // lanes without a part repeat the first one
    for (std::size_t lane = 1; lane < group.size(); ++lane) {
      streams[lane] = show(windows_[lane], *group[lane], done).data();
    }
    md5.update(streams, first.size());
    done += first.size();
  }
  const std::array<Md5, Md5Lanes::kLanes> digests = md5.finish();
  for (std::size_t lane = 0; lane < group.size(); ++lane) {
    set_md5(group[lane]->digests, digests[lane]);
  }
}

void DigestThread::digest_one(UploadPart& part, const std::stop_token& stop) {
  const bool needs_md5 = checksum_ == UploadChecksum::kMd5;
  const bool needs_crc = !needs_md5 && checksum_ != UploadChecksum::kNone;
  if (!needs_sha256_ && !needs_md5 && !needs_crc) {
    return;
  }
  DigestStream sha256(DigestStream::Kind::kSha256);
  DigestStream md5(DigestStream::Kind::kMd5);
  Crc crc(crc_kind(checksum_));
  for (std::uint64_t done = 0; done < part.bytes && !stop.stop_requested();) {
    const std::string_view bytes = show(windows_.front(), part, done);
    if (needs_sha256_) {
      sha256.update(bytes);
    }
    if (needs_md5) {
      md5.update(bytes);
    }
    if (needs_crc) {
      crc.update(bytes);
    }
    done += bytes.size();
  }
  if (needs_sha256_) {
    part.digests.sha256_hex = to_hex(sha256.finish_sha256());
  }
  if (needs_md5) {
    set_md5(part.digests, md5.finish_md5());
  }
  if (needs_crc) {
    part.digests.checksum = crc.base64();
  }
}

std::string_view checksum_header(UploadChecksum kind) {
  switch (kind) {
    case UploadChecksum::kMd5:
      return "Content-MD5";
    case UploadChecksum::kCrc32c:
      return "x-amz-checksum-crc32c";
    case UploadChecksum::kCrc64Nvme:
      return "x-amz-checksum-crc64nvme";
    case UploadChecksum::kAuto:
    case UploadChecksum::kNone:
      break;
  }
  return "";
}

std::string checksum_value(UploadChecksum kind, std::string_view bytes) {
  if (kind == UploadChecksum::kMd5) {
    return to_base64(md5(bytes));
  }
  Crc crc(crc_kind(kind));
  crc.update(bytes);
  return crc.base64();
}

}  // namespace onnxferry
