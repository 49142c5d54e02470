#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace onnxferry {

/// What the poll loop tells the HTTP thread. Thread: any.
struct Health {
  /// Steady clock, milliseconds.
  std::atomic<std::int64_t> last_poll_ms = now_ms();
  std::atomic<bool> group_joined = false;
  std::atomic<bool> scratch_ok = false;
  std::atomic<bool> draining = false;

  /// Whether the loop makes progress. Nothing else: an outage of Kafka or S3 must not make an
  /// orchestrator restart the whole fleet in the middle of its jobs.
  [[nodiscard]] bool is_live() const { return now_ms() - last_poll_ms < kMaxPollAgeMs; }
  [[nodiscard]] bool is_ready() const { return group_joined && scratch_ok && !draining; }

  static std::int64_t now_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  /// The loop turns at least once a second; the longest it may block is a revoke that waits for a
  /// transaction (seconds).
  static constexpr std::int64_t kMaxPollAgeMs = 30'000;
};

}  // namespace onnxferry
