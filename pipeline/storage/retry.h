#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/stage.h"
#include "pipeline/storage/http.h"
#include "pipeline/storage/store_config.h"

namespace onnxferry {

/// Why a request failed, as far as trying again is concerned.
enum class FailureKind : std::uint8_t {
  kTransient,           ///< try again, up to RetryPolicy::attempts
  kUnavailable,         ///< nobody answers, or "busy": try again, up to the outage bound
  kClockSkew,           ///< repair the clock offset, three times: clocks are set while we wait
  kExpiredCredentials,  ///< look for new credentials, once
  kWrongRegion,         ///< sign for the right region, once
  kRedirect,            ///< ask elsewhere, as often as Exchange::repair follows
  kPermanent,           ///< trying again cannot help
};

/// What is known about a failed exchange.
struct FailureFacts {
  int transport = 0;         ///< a CURLcode
  int status = 0;            ///< HTTP, 0 when no reply began
  std::string_view s3_code;  ///< <Code> of the reply's XML, e.g. "SlowDown"
  /// Decided already by what only the exchange knows; wins over all else.
  std::optional<FailureKind> decided = std::nullopt;
};

/// The one place that says which failures are worth another try.
FailureKind classify(const FailureFacts& facts);

/// Full jitter: random in [0, min(cap, base * 2^(failures-1))].
std::chrono::milliseconds backoff_delay(const RetryPolicy& policy,
                                        int failures,
                                        std::minstd_rand& random);

/// One request that is made until it is decided. Thread: that of the loop.
class Exchange {
 public:
  enum class Verdict : std::uint8_t {
    kDone,
    kFailed,  ///< ask facts() whether to try again
  };

  virtual ~Exchange() = default;
  /// Build and sign the next attempt. `failures`: attempts so far.
  virtual HttpRequest prepare(int failures) = 0;
  virtual Verdict judge(HttpReply& reply) = 0;
  [[nodiscard]] virtual FailureFacts facts(const HttpReply& reply) const = 0;
  /// Mend what `kind` names. \return false: it cannot be mended
  virtual bool repair(FailureKind kind, const HttpReply& reply) = 0;
  /// The Error to throw for a failure that is not tried again. `why`: after what it was given up;
  /// empty when trying again could not help.
  [[nodiscard]] virtual Error failure(const HttpReply& reply, std::string_view why) const = 0;
  /// Short, for "waiting" messages: what failed, e.g. "connection refused" or "503 SlowDown".
  [[nodiscard]] virtual std::string describe(const HttpReply& reply) const = 0;
  /// Bytes moved for good; never falls.
  [[nodiscard]] virtual std::uint64_t done_bytes() const { return 0; }
};

/// Hands out exchanges as there is room for them.
class ExchangeSource {
 public:
  virtual ~ExchangeSource() = default;
  /// The next exchange, owned by the loop until it is done; null: none at this moment.
  virtual std::unique_ptr<Exchange> next() = 0;
  /// No further exchange will come.
  [[nodiscard]] virtual bool is_exhausted() const = 0;
};

/// THE retry loop: runs exchanges in parallel, tries again with backoff, waits out an unavailable
/// store, halves the parallelism for an overloaded one and raises it by one for each window of
/// answers without a complaint (what was learnt stays for later runs), checks for cancellation at
/// least every 200 ms. No other code of the project repeats a request. Thread: one; StageObserver
/// calls come from it.
class RetryLoop {
 public:
  RetryLoop(HttpClient& client, const RetryPolicy& policy, int connections);
  RetryLoop(const RetryLoop&) = delete;
  RetryLoop& operator=(const RetryLoop&) = delete;
  ~RetryLoop();

  /// \param scope  gets progress, waiting and cancellation; null for clean-up work that must go on
  ///               after a cancellation
  /// \throws Exchange::failure, Error{kCancelled}; transfers under way are then ended
  void run(ExchangeSource& source, StageScope* scope);

  /// run() with a single exchange, which stays the caller's.
  void run_one(Exchange& exchange, StageScope* scope);

 private:
  using Clock = std::chrono::steady_clock;
  struct Job;

  void start_ready(ExchangeSource& source);
  void start(Job& job);
  void handle_done(StageScope* scope);
  void handle_failure(Job& job, const HttpReply& reply, StageScope* scope);
  void check_limits(Job& job, FailureKind kind, const HttpReply& reply) const;
  void note_outage(const Job& job, const HttpReply& reply, StageScope* scope);
  void note_success(StageScope* scope);
  void report_progress(StageScope* scope);
  [[nodiscard]] std::chrono::milliseconds next_wakeup() const;
  [[nodiscard]] std::size_t active_count() const;

  HttpClient& client_;
  RetryPolicy policy_;
  int connections_;
  int limit_;            // transfers at a time: halved by SlowDown, grown by clean windows
  int clean_count_ = 0;  // successes since the limit last changed
  Clock::time_point last_cut_;
  std::vector<std::unique_ptr<Job>> jobs_;
  Clock::time_point last_success_;
  bool is_waiting_ = false;
  std::uint64_t reported_bytes_ = 0;
  std::uint64_t finished_bytes_ = 0;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace onnxferry
