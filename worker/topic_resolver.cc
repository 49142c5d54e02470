#include "worker/topic_resolver.h"

#include <utility>

#include <fmt/format.h>

#include "worker/log.h"

namespace onnxferry {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMetadataTimeoutMs = 5'000;
constexpr std::chrono::minutes kTopicFreshness{5};
constexpr std::chrono::seconds kMissingTopicFreshness{5};

}  // namespace

void TopicResolver::forget() {
  topics_.clear();
  producer_ = nullptr;
}

std::optional<int> TopicResolver::find(const std::string& topic) {
  KnownTopic& known = topics_[topic];
  const auto age = Clock::now() - known.checked;
  if (known.handle && age < (known.partitions > 0 ? Clock::duration(kTopicFreshness)
                                                  : Clock::duration(kMissingTopicFreshness))) {
    return known.partitions;
  }
  if (!known.handle) {
    known.handle.reset(rd_kafka_topic_new(producer_, topic.c_str(), nullptr));
  }
  if (!known.handle) {
    return 0;  // not even a legal name
  }
  const rd_kafka_metadata_t* answer = nullptr;
  const auto error =
      rd_kafka_metadata(producer_, 0, known.handle.get(), &answer, kMetadataTimeoutMs);
  const KafkaMetadata metadata(answer);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR || !metadata || metadata->topic_cnt != 1) {
    return known.partitions > 0 ? std::optional(known.partitions) : std::nullopt;
  }
  known.partitions = metadata->topics[0].partition_cnt;
  known.checked = Clock::now();
  return known.partitions;
}

/// Choose between the record's topic and its fallback. \return as find(), of the chosen one
std::optional<int> TopicResolver::settle(OutgoingRecord& record) {
  const std::optional<int> partitions = find(record.topic);
  if (partitions != 0 || record.when_missing != MissingTopic::kFallBack ||
      record.topic == record.fallback_topic) {
    return partitions;
  }
  log(LogLevel::kWarn,
      "a reply topic does not exist or may not be used; the reply goes to the default topic",
      {{"topic", record.topic}, {"default", record.fallback_topic}});
  record.topic = record.fallback_topic;
  record.partition.reset();
  return find(record.topic);
}

std::optional<TopicResolver::Refusal> TopicResolver::resolve(std::vector<OutgoingRecord>& records) {
  std::vector<OutgoingRecord> kept;
  for (OutgoingRecord& record : records) {
    const std::optional<int> partitions = settle(record);
    if (!partitions) {
      return Refusal{.reason = fmt::format("no answer about topic {}", record.topic),
                     .missing_topic = {}};
    }
    if (partitions == 0 && record.when_missing != MissingTopic::kLeaveOut) {
      const bool is_refused = record.when_missing == MissingTopic::kRefuse;
      return Refusal{
          .reason = fmt::format("topic {} does not exist or may not be used", record.topic),
          .missing_topic = is_refused ? record.topic : ""};
    }
    if (partitions == 0) {
      log(LogLevel::kError,
          "a dead letter is lost, as its topic does not exist or may not be used; create it",
          {{"topic", record.topic}});
      continue;
    }
    if (record.partition && (*record.partition < 0 || *record.partition >= *partitions)) {
      log(LogLevel::kWarn,
          "the partition asked for does not exist; the key chooses one",
          {{"topic", record.topic},
           {"partition", std::to_string(*record.partition)},
           {"partitions", std::to_string(*partitions)}});
      record.partition.reset();
    }
    kept.push_back(std::move(record));
  }
  records = std::move(kept);
  return std::nullopt;
}

}  // namespace onnxferry
