#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace onnxferry {

enum class RebalanceKind : std::uint8_t { kAssign, kRevoke, kLost };
/// kCut: its limit came first, or the membership ended; jobs that ran are run again elsewhere.
enum class HandoverEnd : std::uint8_t { kDone, kCut };
enum class ProgressFate : std::uint8_t { kSent, kDropped };
enum class SpanFate : std::uint8_t { kSent, kDropped, kFailed };
enum class OrphanFate : std::uint8_t { kReadopted, kKilled, kAnswered };

/// The worker's Prometheus metrics. Labels are small closed sets, never ids. Thread: any.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// A request was answered. \param code  "" for a result
  void job_answered(std::string_view code);
  void job_ended(double seconds);
  void stage_ended(std::string_view stage, double seconds, std::uint64_t bytes);
  void queue_waited(double seconds);
  void jobs_in_flight(std::size_t count);
  void job_crashed();
  void job_retried();
  void retry_moved();
  void retry_partitions_waiting(std::size_t count);

  void rebalanced(RebalanceKind kind);
  /// Partitions that another worker waits for.
  void partitions_leaving(std::size_t count);
  void handed_over(HandoverEnd end);
  void partitions(std::size_t assigned, std::size_t paused);
  void offsets(std::int64_t largest_window, std::size_t largest_metadata_bytes);
  void transaction(std::string_view outcome, double seconds);
  void producer_recreated();
  void duplicate_dropped();
  void orphan(OrphanFate fate);
  void dead_letter(std::string_view code);
  void undecodable_request();
  void poll_turn();
  void progress(ProgressFate fate);
  void spans(SpanFate fate, std::size_t count);
  void scratch_free(std::uint64_t bytes);

  /// Prometheus text format 0.0.4.
  [[nodiscard]] std::string text() const;

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace onnxferry
