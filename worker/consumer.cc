#include "worker/consumer.h"

#include <array>
#include <cstring>
#include <exception>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "worker/log.h"

namespace onnxferry {
namespace {

constexpr int kSeekTimeoutMs = 1'000;
constexpr std::int32_t kNoGeneration = -1;

std::vector<TopicPartition> to_vector(const rd_kafka_topic_partition_list_t* list) {
  std::vector<TopicPartition> partitions;
  partitions.reserve(static_cast<std::size_t>(list->cnt));
  for (int i = 0; i < list->cnt; ++i) {
    partitions.push_back({list->elems[i].topic, list->elems[i].partition});
  }
  return partitions;
}

bool is_cooperative(rd_kafka_t* handle) {
  return std::string_view(rd_kafka_rebalance_protocol(handle)) == "COOPERATIVE";
}

void warn(std::string_view what, const char* reason) {
  log(LogLevel::kWarn, fmt::format("{}: {}", what, reason));
}

/// The generation inside the library's serialised form ("CGMDv2:" + int32 in host order + ids). The
/// opaque type has no getter before 2.4. Unknown forms count as a valid generation; the member id
/// is checked besides.
bool has_generation(const rd_kafka_consumer_group_metadata_t* metadata) {
  constexpr std::string_view kMagic = "CGMDv2:";
  void* buffer = nullptr;
  std::size_t size = 0;
  const KafkaError error(rd_kafka_consumer_group_metadata_write(metadata, &buffer, &size));
  if (error || buffer == nullptr) {
    return true;
  }
  const std::string bytes(static_cast<const char*>(buffer), size);
  rd_kafka_mem_free(nullptr, buffer);
  std::int32_t generation = 0;
  if (!bytes.starts_with(kMagic) || bytes.size() < kMagic.size() + sizeof(generation)) {
    return true;
  }
  std::memcpy(&generation, bytes.data() + kMagic.size(), sizeof(generation));
  return generation != kNoGeneration;
}

bool has_member_id(rd_kafka_t* handle) {
  char* id = rd_kafka_memberid(handle);
  const bool known = id != nullptr && *id != '\0';
  if (id != nullptr) {
    rd_kafka_mem_free(handle, id);
  }
  return known;
}

}  // namespace

Consumer::Consumer(const WorkerConfig& config, ConsumerListener& listener)
    : config_(config), listener_(listener) {
  KafkaConf conf = make_conf(consumer_properties(config));
  rd_kafka_conf_set_opaque(conf.get(), this);
  rd_kafka_conf_set_rebalance_cb(conf.get(), on_rebalance);
  handle_ = make_handle(RD_KAFKA_CONSUMER, std::move(conf));
  rd_kafka_poll_set_consumer(handle_.get());
  queue_.reset(rd_kafka_queue_get_consumer(handle_.get()));
  const std::uint64_t one = 1;
  rd_kafka_queue_io_event_enable(queue_.get(), wake_up_.descriptor(), &one, sizeof(one));
  std::vector<TopicPartition> topics;
  for (const std::string& topic : consumed_topics(config)) {
    topics.push_back({topic, RD_KAFKA_PARTITION_UA});
  }
  const auto error = rd_kafka_subscribe(handle_.get(), make_partitions(topics).get());
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    throw Error(ErrorCode::kInvalidRequest,
                fmt::format("cannot subscribe: {}", rd_kafka_err2str(error)));
  }
}

Consumer::~Consumer() {
  if (queue_) {
    rd_kafka_queue_io_event_enable(queue_.get(), -1, nullptr, 0);
  }
  queue_.reset();
  if (handle_) {
    // Closing is close()'s work; here the callbacks have nobody to talk to any more.
    rd_kafka_destroy_flags(handle_.release(), RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
  }
}

std::optional<Record> Consumer::poll() {
  while (true) {
    const KafkaMessage message(rd_kafka_consumer_poll(handle_.get(), 0));
    if (callback_failure_) {
      std::rethrow_exception(std::exchange(callback_failure_, nullptr));
    }
    if (!message) {
      return std::nullopt;
    }
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      return to_record(*message);
    }
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
      listener_.on_end({rd_kafka_topic_name(message->rkt), message->partition}, message->offset);
      continue;
    }
    if (message->err == RD_KAFKA_RESP_ERR__FATAL) {
      std::array<char, 512> reason{};
      rd_kafka_fatal_error(handle_.get(), reason.data(), reason.size());
      throw Error(
          ErrorCode::kUnavailable,
          fmt::format("the consumer cannot go on: {}; if group.instance.id is set, no other "
                      "process may use the same one",
                      reason.data()));
    }
    report(*message);
  }
}

// These mend themselves: unknown topic until it is made, max.poll.interval (the partitions come
// back by a rebalance), authorisation until it is granted.
void Consumer::report(const rd_kafka_message_t& message) const {
  const std::string topic = message.rkt != nullptr ? rd_kafka_topic_name(message.rkt) : "";
  if (message.err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART && is_retry_topic(config_, topic)) {
    log(LogLevel::kInfo,
        "there is no retry topic; further attempts wait in place, holding their slot",
        {{"topic", topic}});
    return;
  }
  log(LogLevel::kWarn,
      rd_kafka_message_errstr(&message),
      {{"kafka", "consumer"}, {"error", rd_kafka_err2name(message.err)}});
}

void Consumer::on_rebalance(rd_kafka_t* /*handle*/,
                            rd_kafka_resp_err_t event,
                            rd_kafka_topic_partition_list_t* list,
                            void* opaque) noexcept {
  auto* self = static_cast<Consumer*>(opaque);
  try {
    if (event == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
      self->assign(list);
    } else {
      self->revoke(list);
    }
  } catch (...) {
    self->callback_failure_ = std::current_exception();
  }
}

void Consumer::assign(rd_kafka_topic_partition_list_t* list) {
  has_joined_ = true;
  if (is_cooperative(handle_.get())) {
    const KafkaError error(rd_kafka_incremental_assign(handle_.get(), list));
    if (error) {
      warn("incremental assign", rd_kafka_error_string(error.get()));
    }
  } else if (const auto error = rd_kafka_assign(handle_.get(), list);
             error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    warn("assign", rd_kafka_err2str(error));
  }
  rd_kafka_pause_partitions(handle_.get(), list);
  const std::vector<TopicPartition> partitions = to_vector(list);
  owned_.insert(partitions.begin(), partitions.end());
  paused_.insert(partitions.begin(), partitions.end());
  listener_.on_assigned(partitions);
}

void Consumer::revoke(rd_kafka_topic_partition_list_t* list) {
  const bool lost = rd_kafka_assignment_lost(handle_.get()) != 0;
  const std::vector<TopicPartition> partitions = to_vector(list);
  listener_.on_revoked(partitions, lost ? Revocation::kLost : Revocation::kRevoked);
  for (const TopicPartition& partition : partitions) {
    owned_.erase(partition);
    paused_.erase(partition);
  }
  if (is_cooperative(handle_.get())) {
    const KafkaError error(rd_kafka_incremental_unassign(handle_.get(), list));
    if (error) {
      warn("incremental unassign", rd_kafka_error_string(error.get()));
    }
  } else if (const auto error = rd_kafka_assign(handle_.get(), nullptr);
             error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    warn("unassign", rd_kafka_err2str(error));
  }
}

bool Consumer::start(const TopicPartition& partition, std::optional<std::int64_t> offset) {
  if (!offset) {
    return true;
  }
  const KafkaPartitions list = make_partitions(std::span(&partition, 1));
  list->elems[0].offset = *offset;
  const KafkaError error(rd_kafka_seek_partitions(handle_.get(), list.get(), kSeekTimeoutMs));
  return !error && list->elems[0].err == RD_KAFKA_RESP_ERR_NO_ERROR;
}

void Consumer::set_paused(const TopicPartition& partition, bool paused) {
  if (!owned_.contains(partition) || paused_.contains(partition) == paused) {
    return;
  }
  const KafkaPartitions list = make_partitions(std::span(&partition, 1));
  if (paused) {
    rd_kafka_pause_partitions(handle_.get(), list.get());
    paused_.insert(partition);
  } else {
    rd_kafka_resume_partitions(handle_.get(), list.get());
    paused_.erase(partition);
  }
}

KafkaGroupMetadata Consumer::group_metadata() const {
  KafkaGroupMetadata metadata(rd_kafka_consumer_group_metadata(handle_.get()));
  if (!metadata || !has_generation(metadata.get()) || !has_member_id(handle_.get())) {
    return nullptr;
  }
  return metadata;
}

bool Consumer::close(std::chrono::milliseconds limit) {
  if (std::exchange(closed_, true)) {
    return true;
  }
  const KafkaError error(rd_kafka_consumer_close_queue(handle_.get(), queue_.get()));
  if (error) {
    warn("close", rd_kafka_error_string(error.get()));
    return false;
  }
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (rd_kafka_consumer_closed(handle_.get()) == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    const KafkaMessage message(
        rd_kafka_consumer_poll(handle_.get(), 50));  // serves the last revoke
  }
  return true;
}

}  // namespace onnxferry
