#include "worker/cancel_reader.h"

#include <optional>
#include <utility>

#include <fmt/format.h>
#include <pthread.h>

#include "messages/uuid.h"
#include "worker/log.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;

constexpr int kMetadataTimeoutMs = 5'000;
constexpr int kPollMs = 250;
constexpr milliseconds kRetry{1'000};
/// How soon a topic made later, or a partition added, is seen.
constexpr std::chrono::seconds kLookEvery{10};

KafkaProperties properties_of(const WorkerConfig& config) {
  KafkaProperties properties = common_properties(config);
  properties.erase("group.instance.id");  // belongs to the one member of the fleet's group
  properties.erase("group.protocol");     // no group is joined
  // Never joined; the library wants a name to assign partitions. The prefix lets one ACL cover it.
  properties["group.id"] = fmt::format("{}-cancel-{}", config.group, messages::uuid4());
  properties["enable.auto.commit"] = "false";
  properties["enable.auto.offset.store"] = "false";
  properties["enable.partition.eof"] = "true";
  properties["auto.offset.reset"] = "earliest";  // also when the topic was deleted and made anew
  properties["isolation.level"] = "read_committed";
  properties["queued.max.messages.kbytes"] = "4096";
  properties["fetch.wait.max.ms"] = "100";
  return properties;
}

}  // namespace

CancelReader::CancelReader(const WorkerConfig& config)
    : topic_(config.cancel_topic),
      consumer_(make_handle(RD_KAFKA_CONSUMER, make_conf(properties_of(config)))) {
  rd_kafka_poll_set_consumer(consumer_.get());
  thread_ = std::thread([this] { run(); });
}

CancelReader::~CancelReader() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void CancelReader::run() {
  pthread_setname_np(pthread_self(), "cancel");
  while (wait(next_offsets_.empty() ? kRetry : milliseconds(0))) {
    if (Clock::now() >= next_look_) {
      look_for_topic();
    }
    if (!next_offsets_.empty()) {
      poll();
    }
  }
}

bool CancelReader::wait(milliseconds limit) {
  std::unique_lock lock(mutex_);
  // The first look is due at once.
  if (next_look_ != Clock::time_point()) {
    changed_.wait_for(lock, limit, [this] { return stopping_; });
  }
  return !stopping_;
}

void CancelReader::look_for_topic() {
  const KafkaTopic topic(rd_kafka_topic_new(consumer_.get(), topic_.c_str(), nullptr));
  const rd_kafka_metadata_t* answer = nullptr;
  const auto error =
      rd_kafka_metadata(consumer_.get(), 0, topic.get(), &answer, kMetadataTimeoutMs);
  const KafkaMetadata metadata(answer);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR || !metadata || metadata->topic_cnt != 1) {
    next_look_ = Clock::now() + kRetry;  // no broker answers; that is logged elsewhere
    return;
  }
  next_look_ = Clock::now() + kLookEvery;
  const rd_kafka_metadata_topic& found = metadata->topics[0];
  if (found.partition_cnt > static_cast<int>(next_offsets_.size())) {
    assign(found.partition_cnt);
  } else if (found.partition_cnt == 0 && next_offsets_.empty()) {
    const bool is_absent = found.err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (!is_absent && found.err != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) {
      next_look_ = Clock::now() + kRetry;  // just made, no leader yet
      return;
    }
    if (!std::exchange(told_absent_, true)) {
      log(is_absent ? LogLevel::kInfo : LogLevel::kWarn,
          is_absent ? "no cancel topic; requests cannot be cancelled until it exists"
                    : "the cancel topic may not be read; requests cannot be cancelled",
          {{"topic", topic_}});
    }
    tell_caught_up();
  }
}

// The whole list each time, the known partitions where they were.
void CancelReader::assign(int partitions) {
  const KafkaPartitions list(rd_kafka_topic_partition_list_new(partitions));
  for (std::int32_t partition = 0; partition < partitions; ++partition) {
    const auto known = next_offsets_.find(partition);
    const std::int64_t offset =
        known == next_offsets_.end() ? RD_KAFKA_OFFSET_BEGINNING : known->second;
    rd_kafka_topic_partition_list_add(list.get(), topic_.c_str(), partition)->offset = offset;
  }
  const auto error = rd_kafka_assign(consumer_.get(), list.get());
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    log(LogLevel::kWarn,
        fmt::format("the cancel topic cannot be assigned: {}", rd_kafka_err2str(error)),
        {{"topic", topic_}});
    return;
  }
  for (std::int32_t partition = 0; partition < partitions; ++partition) {
    if (next_offsets_.try_emplace(partition, RD_KAFKA_OFFSET_BEGINNING).second) {
      behind_.insert(partition);
    }
  }
  log(LogLevel::kInfo,
      "reading the cancel topic",
      {{"topic", topic_}, {"partitions", std::to_string(partitions)}});
}

void CancelReader::poll() {
  const KafkaMessage message(rd_kafka_consumer_poll(consumer_.get(), kPollMs));
  if (!message) {
    return;
  }
  if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
    take(*message);
  } else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
    behind_.erase(message->partition);
    if (behind_.empty()) {
      tell_caught_up();
    }
  } else {
    // Outages mend themselves; the worker's own consumer logs them.
    log(LogLevel::kDebug,
        rd_kafka_message_errstr(message.get()),
        {{"kafka", "cancel"}, {"error", rd_kafka_err2name(message->err)}});
  }
}

void CancelReader::take(const rd_kafka_message_t& message) {
  next_offsets_[message.partition] = message.offset + 1;
  const Record record = to_record(message);
  std::string problem;
  std::optional<messages::CancelRecord> cancel = messages::decode_cancel(
      record.key,
      record.value ? std::optional<std::string_view>(*record.value) : std::nullopt,
      record.headers,
      problem);
  if (!cancel) {
    log(LogLevel::kWarn,
        "a record of the cancel topic cancels nothing: " + problem,
        {{"topic", topic_},
         {"partition", std::to_string(message.partition)},
         {"offset", std::to_string(message.offset)}});
    return;
  }
  cancel->timestamp_ms = record.timestamp_ms;
  events_.push(std::move(*cancel));
}

void CancelReader::tell_caught_up() {
  if (!std::exchange(told_caught_up_, true)) {
    events_.push(CaughtUp{});
  }
}

}  // namespace onnxferry
