#include "worker/outgoing.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "worker/log.h"
#include "worker/reply.h"

namespace onnxferry {
namespace {

constexpr unsigned kAbortsBeforeSmallReply = 3;
constexpr unsigned kAbortsWithoutDeadLetter = 6;
constexpr std::size_t kSmallReplyBytes = 16'384;
// What librdkafka and the record format need besides key, value and headers.
constexpr std::size_t kRecordOverhead = 512;

std::size_t max_record_bytes(const WorkerConfig& config) {
  const auto found = config.kafka.find("message.max.bytes");
  return found == config.kafka.end() ? 1'000'000 : std::stoul(found->second);
}

OutgoingRecord make_reply_record(const Job& job, const WorkerConfig& config) {
  const messages::Envelope& envelope = job.decoded.envelope;
  const bool small = job.aborts >= kAbortsBeforeSmallReply;
  const std::size_t limit =
      std::min(static_cast<std::size_t>(config.max_reply_bytes), max_record_bytes(config));
  EXPORT_CHECK(job.reply.has_value(), "an ended job without a reply");
  v1::ExportReply reply = *job.reply;
  trim_reply(reply,
             envelope.encoding,
             messages::value_budget(envelope, small ? std::min(limit, kSmallReplyBytes) : limit));
  messages::EncodedMessage message =
      messages::encode_reply(reply, envelope, "/onnxferry/" + config.group);
  OutgoingRecord record;
  record.when_missing = MissingTopic::kFallBack;
  record.fallback_topic = config.reply_topic;
  record.topic = config.reply_topic;
  if (!small && envelope.reply_topic) {
    record.topic = *envelope.reply_topic;
  }
  if (!small) {
    record.partition = envelope.reply_partition;
  }
  record.key = std::move(message.key);
  record.value = std::move(message.value);
  record.headers = std::move(message.headers);
  return record;
}

}  // namespace

bool fits_broker(const OutgoingRecord& record, const WorkerConfig& config) {
  std::size_t size = kRecordOverhead + (record.key ? record.key->size() : 0) +
                     (record.value ? record.value->size() : 0);
  for (const messages::Header& header : record.headers) {
    size += header.name.size() + (header.value ? header.value->size() : 0) + 10;
  }
  return size <= max_record_bytes(config);
}

OutgoingRecord make_dead_letter(const Job& job, const WorkerConfig& config) {
  EXPORT_CHECK(job.reply.has_value(), "a dead letter without a reply");
  const messages::RecordPosition& position = job.origin;
  OutgoingRecord record;
  record.topic = dlq_topic_of(config, position.topic);
  record.key = job.record.key;
  record.value = job.record.value;
  record.headers = job.record.headers;
  const auto add = [&record](std::string_view name, std::string value) {
    record.headers.push_back({std::string(name), std::move(value)});
  };
  add("kafka_dlt-original-topic", position.topic);
  add("kafka_dlt-original-partition", messages::to_big_endian(position.partition));
  add("kafka_dlt-original-offset", messages::to_big_endian(position.offset));
  add("kafka_dlt-original-timestamp", messages::to_big_endian(job.record.timestamp_ms));
  add("kafka_dlt-original-timestamp-type",
      job.record.log_append_time ? "LogAppendTime" : "CreateTime");
  add("kafka_dlt-original-consumer-group", config.group);
  add("kafka_dlt-exception-fqcn", "dev.onnxferry." + job.dead_letter_code);
  add("kafka_dlt-exception-message", job.reply->failure().message().substr(0, 4096));
  add("onnxferry-request-id", job.request_id());
  if (!fits_broker(record, config)) {
    add("onnxferry-dlq-omitted-bytes", std::to_string(record.value ? record.value->size() : 0));
    record.value.reset();
    log(LogLevel::kWarn,
        "a dead letter is too long for the topic; it is kept without its value",
        {{"request_id", job.request_id()}, {"topic", record.topic}});
  }
  return record;
}

std::vector<OutgoingRecord> make_outgoing(const Job& job, const WorkerConfig& config) {
  std::vector<OutgoingRecord> records;
  records.push_back(make_reply_record(job, config));
  if (!job.dead_letter_code.empty() && job.aborts < kAbortsWithoutDeadLetter) {
    OutgoingRecord letter = make_dead_letter(job, config);
    if (fits_broker(letter, config)) {
      records.push_back(std::move(letter));
    }
  }
  return records;
}

}  // namespace onnxferry
