#include "worker/submit_client.h"

#include <array>
#include <vector>

#include <fmt/format.h>

#include "messages/uuid.h"
#include "pipeline/error.h"
#include "worker/kafka_client.h"

namespace onnxferry {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kMetadataTimeout{15'000};
constexpr milliseconds kPollSlice{200};

int to_ms(Clock::duration duration) {
  return static_cast<int>(
      std::max<std::int64_t>(0, std::chrono::duration_cast<milliseconds>(duration).count()));
}

/// What librdkafka last complained about: the reason behind a timeout.
struct LastError {
  std::string text;
};

void on_error(rd_kafka_t* handle, int code, const char* reason, void* opaque) noexcept {
  std::string& text = static_cast<LastError*>(opaque)->text;
  if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || text.empty()) {  // it follows the reason
    text = reason + find_advice(handle, code);
  }
}

/// librdkafka copies keys and values but takes them as void*.
void* as_mutable(const std::string& text) {
  return const_cast<char*>(text.data());
}

struct Delivery {
  bool is_done = false;
  rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
};

void on_delivery(rd_kafka_t* /*handle*/,
                 const rd_kafka_message_t* message,
                 void* /*opaque*/) noexcept {
  auto* delivery = static_cast<Delivery*>(message->_private);
  delivery->is_done = true;
  delivery->error = message->err;
}

void set_property(rd_kafka_conf_t& conf, const std::string& key, const std::string& value) {
  std::array<char, 512> reason{};
  if (rd_kafka_conf_set(&conf, key.c_str(), value.c_str(), reason.data(), reason.size()) !=
      RD_KAFKA_CONF_OK) {
    throw Error(ErrorCode::kInvalidRequest, fmt::format("--kafka {}: {}", key, reason.data()), key);
  }
}

KafkaHandle create(rd_kafka_type_t type,
                   const SubmitConfig& config,
                   const std::map<std::string, std::string>& own,
                   LastError& last_error) {
  KafkaConf conf(rd_kafka_conf_new());
  set_property(*conf, "bootstrap.servers", config.bootstrap);
  set_property(*conf, "client.id", "onnxferry-submit");
  for (const auto& [key, value] : config.kafka) {
    set_property(*conf, key, value);
  }
  for (const auto& [key, value] : own) {  // last: what the promise above rests on
    set_property(*conf, key, value);
  }
  rd_kafka_conf_set_opaque(conf.get(), &last_error);
  rd_kafka_conf_set_error_cb(conf.get(), on_error);
  rd_kafka_conf_set_log_cb(conf.get(), nullptr);
  if (type == RD_KAFKA_PRODUCER) {
    rd_kafka_conf_set_dr_msg_cb(conf.get(), on_delivery);
  }
  std::array<char, 512> reason{};
  KafkaHandle handle(rd_kafka_new(type, conf.get(), reason.data(), reason.size()));
  if (!handle) {
    throw Error(ErrorCode::kInvalidRequest, fmt::format("kafka: {}", reason.data()));
  }
  [[maybe_unused]] const auto* taken = conf.release();
  return handle;
}

/// The number of partitions of an existing topic.
int count_partitions(rd_kafka_t* handle, const std::string& name, const LastError& last_error) {
  const KafkaTopic topic(rd_kafka_topic_new(handle, name.c_str(), nullptr));
  const rd_kafka_metadata_t* raw = nullptr;
  const rd_kafka_resp_err_t error =
      rd_kafka_metadata(handle, 0, topic.get(), &raw, to_ms(kMetadataTimeout));
  const KafkaMetadata metadata(raw);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    rd_kafka_poll(handle, 0);  // serves on_error, which knows why
    throw Error(ErrorCode::kUnavailable,
                fmt::format("no broker answered: {}{}{}",
                            rd_kafka_err2str(error),
                            last_error.text.empty() ? "" : "; ",
                            last_error.text));
  }
  if (metadata->topic_cnt != 1 || metadata->topics[0].err != RD_KAFKA_RESP_ERR_NO_ERROR) {
    throw Error(ErrorCode::kInvalidRequest,
                fmt::format("topic \"{}\": {}; create it or name another",
                            name,
                            metadata->topic_cnt == 1 ? rd_kafka_err2str(metadata->topics[0].err)
                                                     : "not in the broker's answer"),
                name);
  }
  return metadata->topics[0].partition_cnt;
}

void check(rd_kafka_resp_err_t error, std::string_view what) {
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    throw Error(ErrorCode::kUnavailable, fmt::format("{}: {}", what, rd_kafka_err2str(error)));
  }
}

/// All partitions of the topic, from their present ends on.
void assign_at_ends(rd_kafka_t* consumer, const std::string& topic, const LastError& last_error) {
  const int count = count_partitions(consumer, topic, last_error);
  const KafkaPartitions partitions(rd_kafka_topic_partition_list_new(count));
  for (int partition = 0; partition < count; ++partition) {
    std::int64_t low = 0;
    std::int64_t high = 0;
    check(rd_kafka_query_watermark_offsets(
              consumer, topic.c_str(), partition, &low, &high, to_ms(kMetadataTimeout)),
          fmt::format("the end of {} [{}] cannot be read", topic, partition));
    rd_kafka_topic_partition_list_add(partitions.get(), topic.c_str(), partition)->offset = high;
  }
  check(rd_kafka_assign(consumer, partitions.get()), "the reply topic cannot be assigned");
}

messages::Headers headers_of(const rd_kafka_message_t& message) {
  messages::Headers out;
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return out;
  }
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  for (std::size_t i = 0;
       rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
       ++i) {
    out.push_back({name,
                   value == nullptr
                       ? std::nullopt
                       : std::optional(std::string(static_cast<const char*>(value), size))});
  }
  return out;
}

}  // namespace

struct SubmitClient::Impl {
  SubmitConfig config;
  LastError last_error;  // outlives the handles, whose callbacks write it
  KafkaHandle producer;
  KafkaHandle consumer;

  void produce(const messages::EncodedMessage& message, Clock::time_point deadline) {
    Delivery delivery;
    std::vector<rd_kafka_vu_t> fields(5 + message.headers.size());
    fields[0].vtype = RD_KAFKA_VTYPE_TOPIC;
    fields[0].u.cstr = config.topic.c_str();
    fields[1].vtype = RD_KAFKA_VTYPE_KEY;
    fields[1].u.mem = {.ptr = as_mutable(message.key), .size = message.key.size()};
    fields[2].vtype = RD_KAFKA_VTYPE_VALUE;
    fields[2].u.mem = {.ptr = as_mutable(message.value), .size = message.value.size()};
    fields[3].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
    fields[3].u.i = RD_KAFKA_MSG_F_COPY;
    fields[4].vtype = RD_KAFKA_VTYPE_OPAQUE;
    fields[4].u.ptr = &delivery;
    // One entry a header, as handing a header list over can free it twice below 2.12.
    for (std::size_t i = 0; i < message.headers.size(); ++i) {
      const messages::Header& header = message.headers[i];
      fields[5 + i].vtype = RD_KAFKA_VTYPE_HEADER;
      fields[5 + i].u.header.name = header.name.c_str();
      fields[5 + i].u.header.val = header.value ? header.value->data() : nullptr;
      fields[5 + i].u.header.size = header.value ? static_cast<ssize_t>(header.value->size()) : 0;
    }
    const KafkaError error(rd_kafka_produceva(producer.get(), fields.data(), fields.size()));
    check(error ? rd_kafka_error_code(error.get()) : RD_KAFKA_RESP_ERR_NO_ERROR,
          "the request cannot be sent");
    while (!delivery.is_done && Clock::now() < deadline) {
      rd_kafka_poll(producer.get(), to_ms(kPollSlice));
    }
    if (!delivery.is_done) {
      // Its report must not arrive after `delivery` is gone.
      rd_kafka_purge(producer.get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
      rd_kafka_flush(producer.get(), to_ms(kMetadataTimeout));
      throw Error(
          ErrorCode::kUnavailable,
          fmt::format("the request was not taken by a broker in time; {}", last_error.text));
    }
    check(delivery.error, "the request was refused");
  }

  std::optional<v1::ExportReply> await_reply(const std::string& correlation_id,
                                             Clock::time_point deadline) {
    while (Clock::now() < deadline) {
      const auto left = std::min<Clock::duration>(deadline - Clock::now(), kPollSlice);
      const KafkaMessage message(rd_kafka_consumer_poll(consumer.get(), to_ms(left)));
      if (!message || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        continue;  // errors of single brokers pass; the deadline bounds the rest
      }
      const messages::Headers headers = headers_of(*message);
      const std::string* found = messages::find_header(headers, messages::kCorrelationId);
      if (found == nullptr || *found != correlation_id) {
        continue;
      }
      const std::string_view value(static_cast<const char*>(message->payload), message->len);
      return messages::decode_reply(value, headers);
    }
    return std::nullopt;
  }
};

void send_record(SubmitConfig config, const messages::EncodedMessage& message) {
  SubmitClient::Impl impl;
  impl.config = std::move(config);
  impl.producer =
      create(RD_KAFKA_PRODUCER, impl.config, {{"enable.idempotence", "true"}}, impl.last_error);
  count_partitions(impl.producer.get(), impl.config.topic, impl.last_error);
  impl.produce(message, Clock::now() + impl.config.timeout);
}

SubmitClient::SubmitClient(SubmitConfig config) : impl_(std::make_unique<Impl>()) {
  impl_->config = std::move(config);
  Impl& impl = *impl_;
  // Idempotence: a request repeated by the network would be exported twice.
  impl.producer =
      create(RD_KAFKA_PRODUCER, impl.config, {{"enable.idempotence", "true"}}, impl.last_error);
  impl.consumer =
      create(RD_KAFKA_CONSUMER,
             impl.config,
             {{"group.id", "onnxferry-submit-" + messages::uuid4()},  // assign() wants one
              {"enable.auto.commit", "false"},
              {"auto.offset.reset", "earliest"},
              {"isolation.level", "read_committed"}},
             impl.last_error);
  rd_kafka_poll_set_consumer(impl.consumer.get());
  count_partitions(impl.producer.get(), impl.config.topic, impl.last_error);
  assign_at_ends(impl.consumer.get(), impl.config.reply_topic, impl.last_error);
}

SubmitClient::~SubmitClient() = default;

std::optional<v1::ExportReply> SubmitClient::submit(const messages::EncodedMessage& message) {
  const std::string* correlation_id =
      messages::find_header(message.headers, messages::kCorrelationId);
  EXPORT_CHECK(correlation_id != nullptr, "a request without a correlation id");
  const Clock::time_point deadline = Clock::now() + impl_->config.timeout;
  impl_->produce(message, deadline);
  return impl_->await_reply(*correlation_id, deadline);
}

}  // namespace onnxferry
