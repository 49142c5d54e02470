#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "messages/codec.h"
#include "worker/tracing.h"

namespace onnxferry {

/// Now, by a clock that starts at a wall-clock time and cannot be set: a child span must lie within
/// its parent, whatever happens to the system's clock meanwhile.
class SpanClock {
 public:
  using Time = std::chrono::system_clock::time_point;

  [[nodiscard]] Time start() const { return start_; }
  [[nodiscard]] Time now() const {
    return start_ + std::chrono::duration_cast<Time::duration>(std::chrono::steady_clock::now() -
                                                               steady_start_);
  }

 private:
  Time start_ = std::chrono::system_clock::now();
  std::chrono::steady_clock::time_point steady_start_ = std::chrono::steady_clock::now();
};

/// What became of a delivery: answered, moved to the retry topic, given back with its attempt not
/// counted (a shutdown), or left to another owner of the partition.
enum class TraceOutcome : std::uint8_t { kReplied, kMoved, kReleased, kDropped };

/// What all traces of a worker share. Outlives them.
struct Tracer {
  SpanSink& sink;
  std::string group;
  RandomBytes random = fill_random;
};

/// The spans of one delivery of a request: the consumer span from the record's arrival to its end,
/// below it a span for each stage of each attempt, and the producer span of the reply.
///
/// Stage spans are handed on as they end, the consumer span last. Nothing is handed on that was not
/// ended. Thread: the poll loop's.
class JobTrace {
 public:
  /// Continue the trace of the request, or begin one when it names none that is valid.
  /// \param envelope  of the request; from here on it names the consumer span, for the messages
  ///                  about the job. Without a valid traceparent its tracestate is dropped.
  /// \return nullopt when the trace is not sampled; the envelope is untouched then
  static std::optional<JobTrace> begin(const Tracer& tracer,
                                       const messages::RecordPosition& position,
                                       messages::Envelope& envelope);

  void attempt_started(unsigned attempt);
  void stage_started(std::string_view stage);
  void stage_finished(std::string_view stage,
                      std::chrono::milliseconds duration,
                      std::uint64_t bytes);
  /// Stages that have not ended end now. \param error  error code; empty: none
  void attempt_ended(std::string_view error);

  /// The reply goes into a transaction, perhaps not for the first time: the producer span is the
  /// same. \return its context, for the reply
  TraceContext start_send();
  /// The topic that the reply goes to; after repeated aborts it is another one.
  void name_send(std::string_view topic);

  struct End {
    TraceOutcome outcome = TraceOutcome::kDropped;
    std::string error = {};  ///< error code; empty: none
    std::string_view task = {};
    std::string_view model_type = {};
  };
  /// Hand the producer span (of a reply) and the consumer span on; of a delivery that was dropped
  /// before its first attempt none. Once; later calls do nothing.
  void end(const End& end);

 private:
  struct Send {
    TraceContext context;
    std::string topic;
    SpanClock::Time start;
  };

  explicit JobTrace(const Tracer& tracer) : tracer_(&tracer) {}
  void add_stage(std::string_view stage,
                 SpanClock::Time start,
                 std::string_view error,
                 std::int64_t bytes);
  void add_send(SpanClock::Time now) const;
  [[nodiscard]] TraceContext make_child() const;

  const Tracer* tracer_;
  SpanClock clock_;
  TraceContext context_;
  std::optional<SpanId> parent_;
  std::string trace_state_;
  messages::RecordPosition position_;
  std::string request_id_;
  unsigned attempt_ = 0;
  SpanClock::Time attempt_start_;
  std::map<std::string, SpanClock::Time, std::less<>> open_stages_;
  std::optional<Send> send_;
  bool has_ended_ = false;
};

}  // namespace onnxferry
