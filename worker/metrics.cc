#include "worker/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "pipeline/error.h"
#include "pipeline/stage_name.h"
#include "pipeline/version.h"

namespace onnxferry {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

const Histogram::BucketBoundaries kJobBuckets = {0.1, 1, 5, 15, 60, 300, 900, 1800, 3600, 7200};
const Histogram::BucketBoundaries kTransactionBuckets = {
    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30};

Family<Counter>& counter(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}
Family<Gauge>& gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}
Family<Histogram>& histogram(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

constexpr const char* kRebalanceNames[] = {"assign", "revoke", "lost"};
constexpr const char* kHandoverEnds[] = {"done", "cut"};
constexpr const char* kFateNames[] = {"readopted", "killed", "answered"};
constexpr const char* kSpanFateNames[] = {"sent", "dropped", "failed"};

}  // namespace

// clang-format off
struct Metrics::Families {
  prometheus::Registry registry;
  Family<Counter>& jobs = counter(registry, "onnxferry_jobs_total", "Answered requests");
  Gauge& in_flight = gauge(registry, "onnxferry_jobs_in_flight", "Job processes that run").Add({});
  Histogram& job_duration = histogram(registry, "onnxferry_job_duration_seconds", "From start of an attempt to its end").Add({}, kJobBuckets);
  Counter& crashes = counter(registry, "onnxferry_job_crashes_total", "Job processes that ended without a result").Add({});
  Counter& retries = counter(registry, "onnxferry_job_retries_total", "Attempts after the first").Add({});
  Counter& moves = counter(registry, "onnxferry_retry_moved_total", "Requests moved to a retry topic after a failed attempt").Add({});
  Gauge& retry_waiting = gauge(registry, "onnxferry_retry_partitions_waiting", "Partitions paused because their next attempt is not due yet").Add({});
  Family<Histogram>& stage_duration = histogram(registry, "onnxferry_stage_duration_seconds", "Duration of a finished stage");
  Family<Counter>& bytes = counter(registry, "onnxferry_bytes_total", "Bytes moved by finished stages");
  Histogram& queue_wait = histogram(registry, "onnxferry_queue_wait_seconds", "From the record's timestamp to the first start").Add({}, kJobBuckets);
  Family<Counter>& rebalances = counter(registry, "onnxferry_kafka_rebalances_total", "Rebalance callbacks");
  Family<Counter>& handovers = counter(registry, "onnxferry_kafka_handovers_total", "Partitions given up to another worker: when nothing of them ran any more (done), or before, so that jobs run again there (cut)");
  Gauge& leaving = gauge(registry, "onnxferry_kafka_partitions_leaving", "Partitions that another worker waits for until their running jobs have ended").Add({});
  Gauge& assigned = gauge(registry, "onnxferry_kafka_partitions_assigned", "Partitions of this worker").Add({});
  Gauge& paused = gauge(registry, "onnxferry_kafka_partitions_paused", "Partitions paused: their window is full, or their next record is not due").Add({});
  Gauge& window = gauge(registry, "onnxferry_kafka_offset_window", "Highest delivered minus committed offset, the largest of all partitions").Add({});
  Gauge& metadata = gauge(registry, "onnxferry_kafka_offset_metadata_bytes", "Commit metadata, the largest of all partitions").Add({});
  Family<Counter>& transactions = counter(registry, "onnxferry_kafka_txn_total", "Transactions by outcome");
  Histogram& transaction_duration = histogram(registry, "onnxferry_kafka_txn_duration_seconds", "From begin to the outcome").Add({}, kTransactionBuckets);
  Counter& recreated = counter(registry, "onnxferry_kafka_producer_recreated_total", "Producers made anew after a fatal or repeated step").Add({});
  Counter& duplicates = counter(registry, "onnxferry_duplicates_dropped_total", "Records delivered again and dropped").Add({});
  Family<Counter>& orphans = counter(registry, "onnxferry_orphans_total", "Jobs whose partition was revoked, by what became of them");
  Family<Counter>& dead_letters = counter(registry, "onnxferry_dlq_total", "Dead letters by error code");
  Counter& poison = counter(registry, "onnxferry_poison_total", "Records that could not be decoded").Add({});
  Family<Counter>& progress = counter(registry, "onnxferry_progress_total", "Progress events by what became of them");
  Family<Counter>& spans = counter(registry, "onnxferry_spans_total", "Spans by what became of them");
  Gauge& last_poll = gauge(registry, "onnxferry_poll_loop_last_seconds", "Unix time of the last turn of the poll loop").Add({});
  Gauge& scratch = gauge(registry, "onnxferry_scratch_free_bytes", "Free space of the scratch directory").Add({});
};
// clang-format on

Metrics::Metrics() : families_(std::make_unique<Families>()) {
  gauge(families_->registry, "onnxferry_build_info", "Always 1")
      .Add({{"version", std::string(version())}})
      .Set(1);
  // Series that exist from the start can be alerted on before their first event.
  families_->jobs.Add({{"result", "completed"}, {"code", ""}});
  for (const ErrorCodeRow& row : error_code_table()) {
    families_->jobs.Add({{"result", "failed"}, {"code", std::string(row.name)}});
  }
  for (const char* outcome : {"commit", "abort", "unknown"}) {
    families_->transactions.Add({{"outcome", outcome}});
  }
  for (const char* kind : kRebalanceNames) {
    families_->rebalances.Add({{"type", kind}});
  }
  for (const char* end : kHandoverEnds) {
    families_->handovers.Add({{"end", end}});
  }
  for (const char* fate : kSpanFateNames) {
    families_->spans.Add({{"fate", fate}});
  }
}

Metrics::~Metrics() = default;

void Metrics::job_answered(std::string_view code) {
  families_->jobs
      .Add({{"result", code.empty() ? "completed" : "failed"}, {"code", std::string(code)}})
      .Increment();
}
void Metrics::job_ended(double seconds) {
  families_->job_duration.Observe(seconds);
}
void Metrics::stage_ended(std::string_view stage, double seconds, std::uint64_t bytes) {
  // The name comes from another process: only known ones become labels.
  if (!find_stage(stage)) {
    return;
  }
  families_->stage_duration.Add({{"stage", std::string(stage)}}, kJobBuckets).Observe(seconds);
  families_->bytes.Add({{"stage", std::string(stage)}}).Increment(static_cast<double>(bytes));
}
void Metrics::queue_waited(double seconds) {
  families_->queue_wait.Observe(seconds);
}
void Metrics::jobs_in_flight(std::size_t count) {
  families_->in_flight.Set(static_cast<double>(count));
}
void Metrics::job_crashed() {
  families_->crashes.Increment();
}
void Metrics::job_retried() {
  families_->retries.Increment();
}
void Metrics::retry_moved() {
  families_->moves.Increment();
}
void Metrics::retry_partitions_waiting(std::size_t count) {
  families_->retry_waiting.Set(static_cast<double>(count));
}
void Metrics::rebalanced(RebalanceKind kind) {
  families_->rebalances.Add({{"type", kRebalanceNames[static_cast<std::size_t>(kind)]}})
      .Increment();
}
void Metrics::partitions_leaving(std::size_t count) {
  families_->leaving.Set(static_cast<double>(count));
}
void Metrics::handed_over(HandoverEnd end) {
  families_->handovers.Add({{"end", kHandoverEnds[static_cast<std::size_t>(end)]}}).Increment();
}
void Metrics::partitions(std::size_t assigned, std::size_t paused) {
  families_->assigned.Set(static_cast<double>(assigned));
  families_->paused.Set(static_cast<double>(paused));
}
void Metrics::offsets(std::int64_t largest_window, std::size_t largest_metadata_bytes) {
  families_->window.Set(static_cast<double>(largest_window));
  families_->metadata.Set(static_cast<double>(largest_metadata_bytes));
}
void Metrics::transaction(std::string_view outcome, double seconds) {
  families_->transactions.Add({{"outcome", std::string(outcome)}}).Increment();
  families_->transaction_duration.Observe(seconds);
}
void Metrics::producer_recreated() {
  families_->recreated.Increment();
}
void Metrics::duplicate_dropped() {
  families_->duplicates.Increment();
}
void Metrics::orphan(OrphanFate fate) {
  families_->orphans.Add({{"fate", kFateNames[static_cast<std::size_t>(fate)]}}).Increment();
}
void Metrics::dead_letter(std::string_view code) {
  families_->dead_letters.Add({{"code", std::string(code)}}).Increment();
}
void Metrics::undecodable_request() {
  families_->poison.Increment();
}
void Metrics::progress(ProgressFate fate) {
  families_->progress.Add({{"fate", fate == ProgressFate::kSent ? "sent" : "dropped"}}).Increment();
}
void Metrics::spans(SpanFate fate, std::size_t count) {
  families_->spans.Add({{"fate", kSpanFateNames[static_cast<std::size_t>(fate)]}})
      .Increment(static_cast<double>(count));
}
void Metrics::poll_turn() {
  families_->last_poll.SetToCurrentTime();
}
void Metrics::scratch_free(std::uint64_t bytes) {
  families_->scratch.Set(static_cast<double>(bytes));
}

std::string Metrics::text() const {
  return prometheus::TextSerializer().Serialize(families_->registry.Collect());
}

}  // namespace onnxferry
