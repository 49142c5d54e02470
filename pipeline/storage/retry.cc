#include "pipeline/storage/retry.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include <curl/curl.h>
#include <fmt/format.h>

namespace onnxferry {
namespace {

constexpr std::chrono::milliseconds kMaxPoll{200};
constexpr std::uint64_t kProgressThatCounts = 1U << 20U;

struct CodeRow {
  std::string_view code;
  FailureKind kind;
};

// S3 error codes that decide, whatever the HTTP status (Complete puts errors into 200 replies).
// Codes that are absent here are judged by their status. Sources: S3 API reference "Error
// responses"; AWS SDK "standard" retry mode; MinIO cmd/api-errors.go.
constexpr std::array<CodeRow, 27> kCodes = {{
    {"InternalError", FailureKind::kTransient},
    {"InternalServerError", FailureKind::kTransient},
    {"RequestTimeout", FailureKind::kTransient},
    {"RequestTimeoutException", FailureKind::kTransient},
    {"PriorRequestNotComplete", FailureKind::kTransient},
    {"OperationAborted", FailureKind::kTransient},
    {"ConditionalRequestConflict", FailureKind::kTransient},
    {"TransactionInProgress", FailureKind::kTransient},
    {"BadDigest", FailureKind::kTransient},  // damaged on the way: we sent what we hashed
    {"XAmzContentSHA256Mismatch", FailureKind::kTransient},
    {"IncompleteBody", FailureKind::kTransient},
    {"SlowDown", FailureKind::kUnavailable},
    {"SlowDownRead", FailureKind::kUnavailable},
    {"SlowDownWrite", FailureKind::kUnavailable},
    {"ServerBusy", FailureKind::kUnavailable},
    {"ServiceUnavailable", FailureKind::kUnavailable},
    {"BandwidthLimitExceeded", FailureKind::kUnavailable},
    {"RequestLimitExceeded", FailureKind::kUnavailable},
    {"TooManyRequests", FailureKind::kUnavailable},
    {"RequestTimeTooSkewed", FailureKind::kClockSkew},
    {"ExpiredToken", FailureKind::kExpiredCredentials},
    {"ExpiredTokenException", FailureKind::kExpiredCredentials},
    {"InvalidToken", FailureKind::kExpiredCredentials},
    {"AuthorizationHeaderMalformed", FailureKind::kWrongRegion},
    {"PermanentRedirect", FailureKind::kWrongRegion},
    {"IllegalLocationConstraintException", FailureKind::kWrongRegion},
    {"NotImplemented", FailureKind::kPermanent},
}};

FailureKind classify_transport(const FailureFacts& facts) {
  switch (facts.transport) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
      return FailureKind::kUnavailable;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
      // A server that is going down or whose balancer has no backend resets before it answers;
      // a reset in the middle of an answer is an ordinary broken connection.
      return facts.status == 0 ? FailureKind::kUnavailable : FailureKind::kTransient;
    case CURLE_PARTIAL_FILE:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return FailureKind::kTransient;
    default:
      return FailureKind::kPermanent;
  }
}

FailureKind classify_status(int status) {
  switch (status) {
    case 408:
    case 500:
      return FailureKind::kTransient;
    case 429:
    case 502:
    case 503:
    case 504:
      return FailureKind::kUnavailable;
    case 301:
    case 307:
      return FailureKind::kWrongRegion;
    default:
      return FailureKind::kPermanent;
  }
}

bool is_repairable(FailureKind kind) {
  return kind == FailureKind::kClockSkew || kind == FailureKind::kExpiredCredentials ||
         kind == FailureKind::kWrongRegion || kind == FailureKind::kRedirect;
}

/// How often one request may be repaired for the same reason.
std::ptrdiff_t most_repairs(FailureKind kind) {
  if (kind == FailureKind::kRedirect) {
    return std::numeric_limits<std::ptrdiff_t>::max();  // Exchange::repair counts
  }
  return kind == FailureKind::kClockSkew ? 3 : 1;
}

std::chrono::milliseconds retry_after(const HttpReply& reply) {
  const std::string_view text = reply.headers.find("retry-after");
  int seconds = 0;
  std::from_chars(text.data(), text.data() + text.size(), seconds);
  return std::chrono::seconds(std::clamp(seconds, 0, 3600));
}

class SingleExchange : public ExchangeSource {
 public:
  explicit SingleExchange(Exchange& exchange) : exchange_(exchange) {}
  std::unique_ptr<Exchange> next() override;
  [[nodiscard]] bool is_exhausted() const override { return is_given_; }

 private:
  Exchange& exchange_;
  bool is_given_ = false;
};

/// Lends the caller's exchange to the loop, which wants to own what it runs.
class BorrowedExchange : public Exchange {
 public:
  explicit BorrowedExchange(Exchange& exchange) : exchange_(exchange) {}
  HttpRequest prepare(int failures) override { return exchange_.prepare(failures); }
  Verdict judge(HttpReply& reply) override { return exchange_.judge(reply); }
  [[nodiscard]] FailureFacts facts(const HttpReply& reply) const override {
    return exchange_.facts(reply);
  }
  bool repair(FailureKind kind, const HttpReply& reply) override {
    return exchange_.repair(kind, reply);
  }
  [[nodiscard]] Error failure(const HttpReply& reply, std::string_view why) const override {
    return exchange_.failure(reply, why);
  }
  [[nodiscard]] std::string describe(const HttpReply& reply) const override {
    return exchange_.describe(reply);
  }
  [[nodiscard]] std::uint64_t done_bytes() const override { return exchange_.done_bytes(); }

 private:
  Exchange& exchange_;
};

std::unique_ptr<Exchange> SingleExchange::next() {
  if (is_given_) {
    return nullptr;
  }
  is_given_ = true;
  return std::make_unique<BorrowedExchange>(exchange_);
}

}  // namespace

FailureKind classify(const FailureFacts& facts) {
  if (facts.decided) {
    return *facts.decided;
  }
  if (facts.transport != CURLE_OK) {
    return classify_transport(facts);
  }
  const auto* const row = std::ranges::find(kCodes, facts.s3_code, &CodeRow::code);
  if (row != kCodes.end()) {
    return row->kind;
  }
  if (facts.s3_code.starts_with("Throttling") || facts.s3_code.starts_with("RequestThrottled") ||
      facts.s3_code.ends_with("NotInitialized")) {  // MinIO while it starts
    return FailureKind::kUnavailable;
  }
  return classify_status(facts.status);
}

std::chrono::milliseconds backoff_delay(const RetryPolicy& policy,
                                        int failures,
                                        std::minstd_rand& random) {
  const int doublings = std::clamp(failures - 1, 0, 20);
  const auto ceiling =
      std::min<std::int64_t>(policy.backoff_cap.count(), policy.backoff_base.count() << doublings);
  return std::chrono::milliseconds(std::uniform_int_distribution<std::int64_t>(0, ceiling)(random));
}

struct RetryLoop::Job {
  std::unique_ptr<Exchange> exchange;
  std::unique_ptr<HttpClient::Transfer> transfer;  // null while it waits for retry_at
  Clock::time_point retry_at;
  Clock::time_point started_at;
  int failures = 0;  // since the last progress; decides the backoff
  int counted = 0;   // of those, the ones that count as attempts
  std::vector<FailureKind> repaired;
  std::optional<Clock::time_point> unavailable_since;
  std::uint64_t progress_mark = 0;
};

RetryLoop::RetryLoop(HttpClient& client, const RetryPolicy& policy, int connections)
    : client_(client), policy_(policy), connections_(connections), limit_(connections) {}

RetryLoop::~RetryLoop() = default;

void RetryLoop::run(ExchangeSource& source, StageScope* scope) {
  jobs_.clear();
  reported_bytes_ = 0;
  finished_bytes_ = 0;
  try {
    while (true) {
      if (scope != nullptr) {
        scope->check_cancelled();
      }
      start_ready(source);
      if (jobs_.empty() && source.is_exhausted()) {
        break;
      }
      client_.poll(next_wakeup());
      handle_done(scope);
      report_progress(scope);
    }
  } catch (...) {
    jobs_.clear();
    if (is_waiting_ && scope != nullptr) {
      is_waiting_ = false;
      scope->waiting(false, "gave up");
    }
    throw;
  }
}

void RetryLoop::run_one(Exchange& exchange, StageScope* scope) {
  SingleExchange source(exchange);
  run(source, scope);
}

std::size_t RetryLoop::active_count() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(jobs_, [](const auto& job) { return job->transfer != nullptr; }));
}

void RetryLoop::start(Job& job) {
  job.progress_mark = job.exchange->done_bytes();
  job.started_at = Clock::now();
  job.transfer = client_.start(job.exchange->prepare(job.failures));
}

void RetryLoop::start_ready(ExchangeSource& source) {
  const auto now = Clock::now();
  std::size_t active = active_count();
  const auto limit = static_cast<std::size_t>(limit_);
  for (const auto& job : jobs_) {
    if (job->transfer == nullptr && job->retry_at <= now && active < limit) {
      start(*job);
      ++active;
    }
  }
  // Jobs in backoff keep their place, so that a struggling store is not given new work instead.
  while (jobs_.size() < limit) {
    std::unique_ptr<Exchange> exchange = source.next();
    if (exchange == nullptr) {
      return;
    }
    auto job = std::make_unique<Job>();
    job->exchange = std::move(exchange);
    start(*job);
    jobs_.push_back(std::move(job));
  }
}

std::chrono::milliseconds RetryLoop::next_wakeup() const {
  auto wait = kMaxPoll;
  const auto now = Clock::now();
  for (const auto& job : jobs_) {
    if (job->transfer == nullptr) {
      const auto until = std::chrono::ceil<std::chrono::milliseconds>(job->retry_at - now);
      wait = std::clamp(until, std::chrono::milliseconds(0), wait);
    }
  }
  return wait;
}

void RetryLoop::handle_done(StageScope* scope) {
  for (auto& job : jobs_) {
    if (job->transfer == nullptr || !job->transfer->is_done()) {
      continue;
    }
    HttpReply reply = job->transfer->take_reply();
    job->transfer.reset();
    if (job->exchange->judge(reply) == Exchange::Verdict::kDone) {
      note_success(scope);
      finished_bytes_ += job->exchange->done_bytes();
      job.reset();
    } else {
      handle_failure(*job, reply, scope);
    }
  }
  std::erase(jobs_, nullptr);
}

void RetryLoop::handle_failure(Job& job, const HttpReply& reply, StageScope* scope) {
  Exchange& exchange = *job.exchange;
  const FailureKind kind = classify(exchange.facts(reply));
  if (kind == FailureKind::kPermanent) {
    throw exchange.failure(reply, "");
  }
  if (is_repairable(kind)) {
    const auto repairs = std::ranges::count(job.repaired, kind);
    if (repairs >= most_repairs(kind) || !exchange.repair(kind, reply)) {
      throw exchange.failure(reply, "");
    }
    job.repaired.push_back(kind);
    job.retry_at = Clock::now();
    return;
  }
  if (exchange.done_bytes() >= job.progress_mark + kProgressThatCounts) {
    job.failures = 0;
    job.counted = 0;
    job.unavailable_since.reset();
  }
  ++job.failures;
  check_limits(job, kind, reply);
  if (kind == FailureKind::kUnavailable) {
    note_outage(job, reply, scope);
  }
  job.retry_at = Clock::now() + std::max(backoff_delay(policy_, job.failures, random_),
                                         std::min(retry_after(reply), policy_.backoff_cap));
}

void RetryLoop::check_limits(Job& job, FailureKind kind, const HttpReply& reply) const {
  const bool waits = kind == FailureKind::kUnavailable && policy_.outage_bound.count() > 0;
  if (!waits && ++job.counted >= policy_.attempts) {
    throw job.exchange->failure(reply, fmt::format("gave up after {} attempts", job.counted));
  }
  if (kind != FailureKind::kUnavailable) {
    job.unavailable_since.reset();
    return;
  }
  const auto now = Clock::now();
  if (!job.unavailable_since) {
    job.unavailable_since = now;
  }
  if (waits && now - *job.unavailable_since >= policy_.outage_bound) {
    throw job.exchange->failure(
        reply,
        fmt::format("gave up after waiting {} s for the store",
                    std::chrono::duration_cast<std::chrono::seconds>(now - *job.unavailable_since)
                        .count()));
  }
}

void RetryLoop::note_outage(const Job& job, const HttpReply& reply, StageScope* scope) {
  const auto now = Clock::now();
  // All requests of one window meet the same overload: only those sent since count again.
  if ((reply.status == 429 || reply.status == 503) && job.started_at > last_cut_) {
    limit_ = std::max(1, limit_ / 2);
    clean_count_ = 0;
    last_cut_ = now;
  }
  const auto since = job.unavailable_since.value_or(now);
  const bool is_lasting = now - since >= policy_.outage_notice && last_success_ < since;
  if (is_lasting && !is_waiting_ && scope != nullptr && policy_.outage_bound.count() > 0) {
    is_waiting_ = true;
    scope->waiting(true, job.exchange->describe(reply));
  }
}

void RetryLoop::note_success(StageScope* scope) {
  last_success_ = Clock::now();
  if (++clean_count_ >= limit_) {
    limit_ = std::min(connections_, limit_ + 1);
    clean_count_ = 0;
  }
  if (is_waiting_ && scope != nullptr) {
    is_waiting_ = false;
    scope->waiting(false, "the store answers again");
  }
}

void RetryLoop::report_progress(StageScope* scope) {
  std::uint64_t done = finished_bytes_;
  for (const auto& job : jobs_) {
    done += job->exchange->done_bytes();
  }
  if (scope != nullptr && done > reported_bytes_) {
    const std::uint64_t fresh = done - reported_bytes_;
    reported_bytes_ = done;
    scope->add_bytes(fresh);
  }
}

}  // namespace onnxferry
