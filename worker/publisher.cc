#include "worker/publisher.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <pthread.h>

#include "pipeline/error.h"
#include "worker/failpoint.h"
#include "worker/log.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;

constexpr int kStepTimeoutMs = 5'000;
constexpr milliseconds kProducerBackoff{1'000};
// Being fenced once is what a long outage does to a transaction; again and again it is a clash.
constexpr std::size_t kMaxFences = 4;
constexpr std::chrono::minutes kFenceWindow{10};

bool is_group_error(rd_kafka_resp_err_t code) {
  return code == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
         code == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID ||
         code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID ||
         code == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
}

bool is_fence(rd_kafka_resp_err_t code) {
  return code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH ||
         code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
}

KafkaPartitions make_offsets(const std::vector<PartitionCommit>& commits) {
  KafkaPartitions list(rd_kafka_topic_partition_list_new(static_cast<int>(commits.size())));
  for (const auto& [partition, state] : commits) {
    auto* element =
        rd_kafka_topic_partition_list_add(list.get(), partition.topic.c_str(), partition.partition);
    EXPORT_CHECK(state.offset.has_value(), "a commit without an offset");
    element->offset = *state.offset;
    // Freed with free() by the list.
    element->metadata = std::malloc(state.metadata.size() + 1);  // NOLINT(*-no-malloc)
    EXPORT_CHECK(element->metadata != nullptr, "out of memory");
    std::memcpy(element->metadata, state.metadata.c_str(), state.metadata.size() + 1);
    element->metadata_size = state.metadata.size();
  }
  return list;
}

/// librdkafka takes what it only reads as void*.
void* as_mutable(const std::string& text) {
  return const_cast<char*>(text.data());  // NOLINT(*-const-cast)
}

rd_kafka_vu_t option(rd_kafka_vtype_t type) {
  rd_kafka_vu_t entry{};
  entry.vtype = type;
  return entry;
}

std::vector<rd_kafka_vu_t> produce_arguments(const OutgoingRecord& record) {
  std::vector<rd_kafka_vu_t> arguments;
  rd_kafka_vu_t entry = option(RD_KAFKA_VTYPE_TOPIC);
  entry.u.cstr = record.topic.c_str();
  arguments.push_back(entry);
  entry = option(RD_KAFKA_VTYPE_PARTITION);
  entry.u.i32 = record.partition.value_or(RD_KAFKA_PARTITION_UA);
  arguments.push_back(entry);
  entry = option(RD_KAFKA_VTYPE_MSGFLAGS);
  entry.u.i = RD_KAFKA_MSG_F_COPY;
  arguments.push_back(entry);
  if (record.key) {
    entry = option(RD_KAFKA_VTYPE_KEY);
    entry.u.mem = {as_mutable(*record.key), record.key->size()};
    arguments.push_back(entry);
  }
  if (record.value) {
    entry = option(RD_KAFKA_VTYPE_VALUE);
    entry.u.mem = {as_mutable(*record.value), record.value->size()};
    arguments.push_back(entry);
  }
  // One entry a header, as handing a header list over can free it twice in 2.0.2.
  for (const messages::Header& header : record.headers) {
    entry = option(RD_KAFKA_VTYPE_HEADER);
    entry.u.header.name = header.name.c_str();
    entry.u.header.val = header.value ? header.value->data() : nullptr;
    entry.u.header.size = header.value ? static_cast<ssize_t>(header.value->size()) : 0;
    arguments.push_back(entry);
  }
  return arguments;
}

}  // namespace

TransactionPublisher::TransactionPublisher(const WorkerConfig& config,
                                           std::string transactional_id,
                                           Metrics& metrics)
    : config_(config),
      transactional_id_(std::move(transactional_id)),
      metrics_(metrics),
      thread_([this] { run(); }) {}

TransactionPublisher::~TransactionPublisher() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void TransactionPublisher::submit(Transaction transaction) {
  {
    const std::scoped_lock lock(mutex_);
    EXPORT_CHECK(!busy_, "one transaction at a time");
    busy_ = true;
    next_ = std::move(transaction);
  }
  changed_.notify_all();
}

bool TransactionPublisher::is_idle() const {
  const std::scoped_lock lock(mutex_);
  return !busy_;
}

bool TransactionPublisher::wait_idle(milliseconds limit) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit, [this] { return !busy_; });
}

void TransactionPublisher::run() {
  pthread_setname_np(pthread_self(), "publish");
  wait_for_producer();
  while (std::optional<Transaction> transaction = next_transaction()) {
    const Clock::time_point start = Clock::now();
    TransactionResult result = publish(*transaction);
    constexpr std::array<std::string_view, 4> kOutcomes = {"commit", "abort", "abort", "unknown"};
    metrics_.transaction(kOutcomes.at(static_cast<std::size_t>(result.outcome)),
                         std::chrono::duration<double>(Clock::now() - start).count());
    const bool clash = !result.clash.empty();
    // What the committed offsets say is final only once the next producer with this id has settled
    // the transaction: make it before anybody asks. After a clash it would fence the other process.
    if (!clash) {
      wait_for_producer();
    }
    results_.push(std::move(result));
    {
      const std::scoped_lock lock(mutex_);
      busy_ = false;
    }
    changed_.notify_all();
    if (clash) {
      return;
    }
  }
}

bool TransactionPublisher::is_stopping() const {
  const std::scoped_lock lock(mutex_);
  return stopping_;
}

/// \return nothing when this ends
std::optional<Transaction> TransactionPublisher::next_transaction() {
  while (true) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, milliseconds(500), [this] { return stopping_ || next_.has_value(); });
    if (stopping_) {
      return std::nullopt;
    }
    if (next_) {
      return std::exchange(next_, std::nullopt);
    }
    lock.unlock();
    rd_kafka_poll(producer_.get(), 0);  // serve the library's events now and then while idle
  }
}

void TransactionPublisher::wait_for_producer() {
  while (!producer_ && !is_stopping() && !ensure_producer()) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kProducerBackoff, [this] { return stopping_; });
  }
}

bool TransactionPublisher::init_transactions(rd_kafka_t* handle) const {
  while (!is_stopping()) {
    const KafkaError error(rd_kafka_init_transactions(handle, kStepTimeoutMs));
    if (!error) {
      return true;
    }
    log(LogLevel::kWarn,
        fmt::format("cannot start transactions yet: {}", rd_kafka_error_string(error.get())),
        {{"error", rd_kafka_error_name(error.get())}});
    if (rd_kafka_error_is_retriable(error.get()) == 0) {
      return false;
    }
  }
  return false;
}

// Create the producer, settle what an earlier one of this id left open, warm the reply topic up.
bool TransactionPublisher::ensure_producer() {
  try {
    KafkaHandle handle =
        make_handle(RD_KAFKA_PRODUCER, make_conf(producer_properties(config_, transactional_id_)));
    if (!init_transactions(handle.get())) {
      return false;
    }
    producer_ = std::move(handle);
    topics_.use(producer_.get());
    if (std::exchange(had_producer_, true)) {
      metrics_.producer_recreated();
    }
  } catch (const Error& error) {
    log(LogLevel::kError, error.message());
    return false;
  }
  if (topics_.find(config_.reply_topic) == 0) {
    log(LogLevel::kError,
        "the reply topic does not exist or may not be used; no request can be answered until it "
        "does",
        {{"topic", config_.reply_topic}});
  }
  return true;
}

void TransactionPublisher::drop_producer(std::string_view why) {
  log(LogLevel::kWarn, fmt::format("making a new producer: {}", why));
  topics_.forget();
  rd_kafka_purge(producer_.get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  producer_.reset();
}

/// Call until it succeeds, is fatal, wants an abort, or the deadline has passed.
template <typename Function>
TransactionPublisher::StepResult TransactionPublisher::climb(std::string_view what,
                                                             Function&& call) {
  const Clock::time_point deadline = Clock::now() + milliseconds(config_.publish_deadline_ms);
  while (true) {
    const KafkaError error(call());
    rd_kafka_poll(producer_.get(), 0);
    if (!error) {
      return {};
    }
    StepResult result{.step = Step::kFatal,
                      .code = rd_kafka_error_code(error.get()),
                      .reason = fmt::format("{}: {} ({})",
                                            what,
                                            rd_kafka_error_string(error.get()),
                                            rd_kafka_error_name(error.get()))};
    if (rd_kafka_error_is_fatal(error.get()) != 0) {
      return result;
    }
    if (rd_kafka_error_txn_requires_abort(error.get()) != 0) {
      result.step = Step::kAbort;
      return result;
    }
    // Neither flag set: the library knows no way on; a new producer does.
    if (rd_kafka_error_is_retriable(error.get()) == 0 || is_stopping() || Clock::now() > deadline) {
      return result;
    }
    repeated_ = true;
    log(LogLevel::kWarn, fmt::format("repeating: {}", result.reason));
  }
}

TransactionResult TransactionPublisher::publish(Transaction& transaction) {
  TransactionResult result{.id = transaction.id,
                           .outcome = TransactionOutcome::kAborted,
                           .reason = {},
                           .missing_topic = {},
                           .clash = {}};
  if (auto refusal = topics_.resolve(transaction.records)) {
    result.reason = std::move(refusal->reason);
    result.missing_topic = std::move(refusal->missing_topic);
    return result;
  }
  repeated_ = false;
  StepResult step = open_and_fill(transaction);
  if (step.step == Step::kDone) {
    step = climb("commit",
                 [&] { return rd_kafka_commit_transaction(producer_.get(), kStepTimeoutMs); });
    if (step.step == Step::kDone && !transaction.records.empty()) {
      failpoint("after-commit");
    }
  }
  result.reason = step.reason;
  if (step.step == Step::kAbort) {
    const StepResult abort =
        climb("abort", [&] { return rd_kafka_abort_transaction(producer_.get(), kStepTimeoutMs); });
    result.outcome = is_group_error(step.code) ? TransactionOutcome::kAbortedGroup
                                               : TransactionOutcome::kAborted;
    if (abort.step != Step::kDone) {
      step = abort;
      step.step = Step::kFatal;
    }
  }
  if (step.step == Step::kDone) {
    result.outcome = TransactionOutcome::kCommitted;
  }
  // A repeated commit or abort may have been applied twice, late or to a later transaction
  // (kafka.apache.org KIP-890): only a new producer and the committed offsets give certainty.
  if (step.step == Step::kFatal || repeated_) {
    result.outcome = TransactionOutcome::kUnknown;
    if (is_fence(step.code)) {
      result.clash = note_fence();
    }
    if (result.reason.empty()) {
      result.reason = "a step had to be repeated";
    }
    drop_producer(result.reason);
  }
  return result;
}

TransactionPublisher::StepResult TransactionPublisher::open_and_fill(Transaction& transaction) {
  StepResult step = climb("begin", [&] { return rd_kafka_begin_transaction(producer_.get()); });
  for (const OutgoingRecord& record : transaction.records) {
    if (step.step == Step::kDone) {
      step = produce(record);
    }
  }
  if (step.step != Step::kDone) {
    return step;
  }
  if (!transaction.records.empty() && is_failpoint("after-produce")) {
    rd_kafka_flush(producer_.get(), kStepTimeoutMs);  // the record must really be in the log
    failpoint("after-produce");
  }
  step = send_offsets(transaction);
  if (step.step == Step::kDone && !transaction.records.empty() && is_failpoint("before-commit")) {
    rd_kafka_flush(producer_.get(), kStepTimeoutMs);
    failpoint("before-commit");
  }
  return step;
}

TransactionPublisher::StepResult TransactionPublisher::produce(const OutgoingRecord& record) {
  const std::vector<rd_kafka_vu_t> arguments = produce_arguments(record);
  const KafkaError error(rd_kafka_produceva(producer_.get(), arguments.data(), arguments.size()));
  if (!error) {
    return {};
  }
  const auto code = rd_kafka_error_code(error.get());
  return {
      .step = code == RD_KAFKA_RESP_ERR__FATAL || code == RD_KAFKA_RESP_ERR__FENCED ? Step::kFatal
                                                                                    : Step::kAbort,
      .code = code,
      .reason = fmt::format("produce to {}: {}", record.topic, rd_kafka_error_string(error.get()))};
}

TransactionPublisher::StepResult TransactionPublisher::send_offsets(
    const Transaction& transaction) {
  StepResult step;
  for (const MemberCommit& commit : transaction.commits) {
    const KafkaPartitions offsets = make_offsets(commit.partitions);
    step = climb("send offsets", [&] {
      return rd_kafka_send_offsets_to_transaction(
          producer_.get(), offsets.get(), commit.group.get(), kStepTimeoutMs);
    });
    if (step.step != Step::kDone) {
      break;
    }
  }
  return step;
}

std::string TransactionPublisher::note_fence() {
  const Clock::time_point now = Clock::now();
  fences_.push_back(now);
  while (now - fences_.front() > kFenceWindow) {
    fences_.pop_front();
  }
  if (fences_.size() < kMaxFences) {
    return {};
  }
  return fmt::format(
      "fenced {} times in {} minutes: another process uses the transactional.id {}; give each "
      "worker its own host name or POD_NAME, or a scratch directory shared by the workers of a "
      "host",
      fences_.size(),
      kFenceWindow.count(),
      transactional_id_);
}

}  // namespace onnxferry
