#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "onnxferry/v1/job.pb.h"
#include "pipeline/stage.h"

namespace onnxferry {

/// Put the varint length before a message's bytes.
std::string frame(const google::protobuf::Message& message);

/// Cuts length-delimited messages out of a byte stream that arrives in any pieces.
/// Use: feed() what was read from the pipe, then next() until it gives nothing.
/// Thread: one.
class FrameReader {
 public:
  explicit FrameReader(std::size_t max_frame_bytes = 64U << 20U)
      : max_frame_bytes_(max_frame_bytes) {}

  void feed(std::string_view bytes);

  /// Parse the next whole message into `message`.
  /// \return false when more bytes are needed
  /// \throws Error{kInternal} when the stream is not ours: a length past the limit or bytes that do
  ///         not parse. The stream cannot be read any further then.
  bool next(google::protobuf::Message& message);

  /// Bytes of an unfinished message; not 0 at the end of the stream means that it was cut off.
  [[nodiscard]] std::size_t pending_bytes() const { return buffer_.size() - begin_; }

 private:
  std::size_t max_frame_bytes_;
  std::string buffer_;
  std::size_t begin_ = 0;
};

/// Read exactly one framed message from a descriptor (the child's stdin).
/// \throws Error{kInternal} at an early end of the stream
void read_frame(int descriptor, google::protobuf::Message& message);

/// The child's side: a StageObserver that writes JobEvents. Progress is limited to ten events a
/// second (a stage's first and last always pass). A failed write means that the parent is gone: the
/// job is cancelled. Thread: any; events of several threads are never mixed.
class JobEventWriter : public StageObserver {
 public:
  /// \param descriptor  open for writing, owned by the caller
  /// \param cancelled   set by the SIGTERM handler
  JobEventWriter(int descriptor, const std::atomic<bool>& cancelled)
      : descriptor_(descriptor), cancelled_(cancelled) {}

  void stage_started(Stage stage) override;
  void stage_finished(const StageTiming& timing) override;
  void progress(Stage stage, std::uint64_t done, std::uint64_t total) override;
  void waiting(Stage stage, bool waiting, std::string_view reason) override;
  [[nodiscard]] bool is_cancelled() const override { return cancelled_ || broken_; }

  /// Write a terminal event. \return false when the parent did not take it
  bool finish(v1::ExportResult result);
  bool finish(v1::Failure failure);

 private:
  bool write(const v1::JobEvent& event);

  int descriptor_;
  const std::atomic<bool>& cancelled_;
  std::atomic<bool> broken_ = false;
  std::mutex mutex_;
  std::optional<Stage> progress_stage_;                  // guarded by mutex_
  bool progress_complete_ = false;                       // guarded by mutex_
  std::chrono::steady_clock::time_point next_progress_;  // guarded by mutex_
};

}  // namespace onnxferry
