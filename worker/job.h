#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "messages/codec.h"
#include "onnxferry/v1/export.pb.h"
#include "worker/job_process.h"
#include "worker/job_trace.h"
#include "worker/kafka_client.h"
#include "worker/progress_reporter.h"

namespace onnxferry {

/// A job is named by its record; who owns the partition can change under it.
using JobKey = std::tuple<std::string, std::int32_t, std::int64_t>;

/// The way of a request through the worker, in this order; a retry goes back to kRecording.
enum class JobState : std::uint8_t {
  kWaiting,    ///< delivered; no slot yet
  kRecording,  ///< its attempt must be committed before the process starts
  kRunning,
  kBackoff,    ///< failed in a way that may pass; holds its slot
  kEnded,      ///< its reply must be committed
  kMoving,     ///< its move to the retry topic must be committed
  kReleasing,  ///< stopped by our own shutdown: its attempt must be taken back
};

/// Why a running process was told to stop.
enum class StopReason : std::uint8_t {
  kNone,
  kExpired,
  kOverTime,
  kCancelled,
  kDrained,
  kOrphaned
};

struct Job {
  using SteadyTime = std::chrono::steady_clock::time_point;
  using SystemTime = std::chrono::system_clock::time_point;

  /// As it was sent: of a record of a retry topic, all but the position is the original's.
  Record record;
  messages::RecordPosition origin;  ///< where the request was first seen; names it in dead letters
  unsigned attempts_before = 0;     ///< started before the record came to this topic
  SteadyTime due;                   ///< not to be started before
  messages::DecodedRequest decoded;
  std::string export_timestamp;
  std::optional<SystemTime> expires_at;
  std::uint64_t sequence = 0;  ///< order of arrival

  JobState state = JobState::kWaiting;
  /// The partition's epoch; absent: the partition was revoked, this is an orphan that may be
  /// adopted again when the same record is delivered.
  std::optional<std::uint64_t> epoch;
  SteadyTime orphan_deadline;

  unsigned attempt = 0;
  SystemTime started_at;
  SteadyTime attempt_started;
  SteadyTime backoff_until;
  std::optional<v1::Failure> retry_cause;  ///< why the last attempt failed; kMoving, kBackoff
  std::unique_ptr<JobProcess> process;
  std::filesystem::path scratch;
  std::vector<v1::StageReport> stages;
  ProgressState progress;
  std::optional<JobTrace> trace;  ///< absent: tracing is off, or the trace is not sampled
  bool is_waiting_for_store = false;
  StopReason stop_reason = StopReason::kNone;

  std::optional<v1::ExportReply> reply;  ///< kEnded
  std::string dead_letter_code;          ///< not empty: the record is copied to the dead letters
  bool in_transaction = false;
  unsigned aborts = 0;  ///< of transactions that carried this job and not for the group's sake

  [[nodiscard]] JobKey key() const {
    return {record.position.topic, record.position.partition, record.position.offset};
  }
  [[nodiscard]] const std::string& request_id() const { return decoded.envelope.request_id; }
  /// When the request was sent, by its record; -1: unknown.
  [[nodiscard]] std::int64_t sent_ms() const { return record.timestamp_ms; }
  [[nodiscard]] std::int64_t offset() const { return record.position.offset; }
  /// Waits for the time of its next attempt.
  [[nodiscard]] bool is_early(SteadyTime now) const {
    return state == JobState::kWaiting && now < due;
  }
  [[nodiscard]] bool holds_slot() const {
    return state == JobState::kRecording || state == JobState::kRunning ||
           state == JobState::kBackoff;
  }
};

}  // namespace onnxferry
