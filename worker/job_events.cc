#include "worker/job_events.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/message.h>
#include <unistd.h>

#include "messages/text.h"

namespace onnxferry {
namespace {

constexpr std::size_t kReadBytes = 64U << 10U;
constexpr std::size_t kMaxSpecBytes = 8U << 20U;
constexpr std::size_t kMaxReasonBytes = 500;
constexpr std::chrono::milliseconds kProgressInterval{100};

struct Prefix {
  std::uint64_t length = 0;
  std::size_t bytes = 0;  ///< of the varint itself; 0 while it is not complete
};

Prefix read_prefix(std::string_view bytes) {
  constexpr std::size_t kMaxVarintBytes = 10;
  Prefix prefix;
  for (std::size_t i = 0; i < bytes.size() && i < kMaxVarintBytes; ++i) {
    const auto byte = static_cast<std::uint8_t>(bytes[i]);
    prefix.length |= static_cast<std::uint64_t>(byte & 0x7FU) << (7 * i);
    if (byte < 0x80) {
      prefix.bytes = i + 1;
      return prefix;
    }
  }
  if (bytes.size() >= kMaxVarintBytes) {
    throw Error(ErrorCode::kInternal, "the job's event stream is damaged: no frame length");
  }
  return prefix;
}

/// \return bytes read, 0 at the end of the stream
std::size_t read_some(int descriptor, std::string& buffer) {
  while (true) {
    const ssize_t count = ::read(descriptor, buffer.data(), buffer.size());
    if (count >= 0) {
      return static_cast<std::size_t>(count);
    }
    if (errno != EINTR) {
      throw Error(ErrorCode::kInternal,
                  fmt::format("the job's input cannot be read: {}",
                              std::generic_category().message(errno)));
    }
  }
}

bool write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return false;
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

std::string frame(const google::protobuf::Message& message) {
  const std::string body = message.SerializeAsString();
  std::string framed;
  for (std::uint64_t rest = body.size(); true; rest >>= 7U) {
    const bool is_last = rest < 0x80;
    framed += static_cast<char>((rest & 0x7FU) | (is_last ? 0U : 0x80U));
    if (is_last) {
      return framed + body;
    }
  }
}

void FrameReader::feed(std::string_view bytes) {
  if (begin_ > 0) {
    buffer_.erase(0, begin_);
    begin_ = 0;
  }
  buffer_ += bytes;
}

bool FrameReader::next(google::protobuf::Message& message) {
  const std::string_view rest = std::string_view(buffer_).substr(begin_);
  const Prefix prefix = read_prefix(rest);
  if (prefix.bytes == 0) {
    return false;
  }
  if (prefix.length > max_frame_bytes_) {
    throw Error(ErrorCode::kInternal,
                fmt::format("the job's event stream is damaged: a frame of {} bytes, at most {}",
                            prefix.length,
                            max_frame_bytes_));
  }
  if (rest.size() - prefix.bytes < prefix.length) {
    return false;
  }
  const std::string_view body = rest.substr(prefix.bytes, prefix.length);
  if (!message.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    throw Error(ErrorCode::kInternal,
                fmt::format("the job's event stream is damaged: no {} in a frame of {} bytes",
                            message.GetTypeName(),
                            body.size()));
  }
  begin_ += prefix.bytes + body.size();
  return true;
}

void read_frame(int descriptor, google::protobuf::Message& message) {
  FrameReader reader(kMaxSpecBytes);
  std::string buffer(kReadBytes, '\0');
  while (!reader.next(message)) {
    const std::size_t count = read_some(descriptor, buffer);
    if (count == 0) {
      throw Error(
          ErrorCode::kInternal,
          fmt::format("the job's input ended after {} bytes of a frame", reader.pending_bytes()));
    }
    reader.feed(std::string_view(buffer).substr(0, count));
  }
}

void JobEventWriter::stage_started(Stage stage) {
  v1::JobEvent event;
  event.mutable_stage_started()->set_stage(std::string(to_string(stage)));
  write(event);
}

void JobEventWriter::stage_finished(const StageTiming& timing) {
  v1::JobEvent event;
  v1::StageReport& report = *event.mutable_stage_finished();
  report.set_stage(std::string(to_string(timing.stage)));
  report.set_ms(static_cast<std::uint64_t>(timing.duration.count()));
  report.set_bytes(timing.bytes);
  write(event);
}

void JobEventWriter::progress(Stage stage, std::uint64_t done, std::uint64_t total) {
  {
    const std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    const bool is_first = progress_stage_ != stage;
    const bool is_complete = total > 0 && done >= total;
    const bool is_edge = is_first || (is_complete && !progress_complete_);
    if (!is_edge && now < next_progress_) {
      return;
    }
    progress_stage_ = stage;
    progress_complete_ = is_complete;
    next_progress_ = now + kProgressInterval;
  }
  v1::JobEvent event;
  v1::JobProgress& progress = *event.mutable_progress();
  progress.set_stage(std::string(to_string(stage)));
  progress.set_done(done);
  progress.set_total(total);
  write(event);
}

void JobEventWriter::waiting(Stage stage, bool waiting, std::string_view reason) {
  v1::JobEvent event;
  v1::JobWaiting& wait = *event.mutable_waiting();
  wait.set_stage(std::string(to_string(stage)));
  wait.set_waiting(waiting);
  wait.set_reason(messages::to_valid_utf8(reason.substr(0, kMaxReasonBytes)));
  write(event);
}

bool JobEventWriter::finish(v1::ExportResult result) {
  v1::JobEvent event;
  *event.mutable_result() = std::move(result);
  return write(event);
}

bool JobEventWriter::finish(v1::Failure failure) {
  v1::JobEvent event;
  *event.mutable_failure() = std::move(failure);
  return write(event);
}

bool JobEventWriter::write(const v1::JobEvent& event) {
  const std::string bytes = frame(event);
  const std::lock_guard lock(mutex_);
  if (broken_ || !write_all(descriptor_, bytes)) {
    broken_ = true;  // the reader is gone; half a frame may be out, so nothing may follow
  }
  return !broken_;
}

}  // namespace onnxferry
