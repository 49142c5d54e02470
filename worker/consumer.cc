#include "worker/consumer.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "worker/log.h"

namespace onnxferry {
namespace {

constexpr int kSeekTimeoutMs = 1'000;
/// Where an assigned partition stands until start(): paused, so nothing is read from there.
constexpr std::int64_t kParked = 0;
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

/// The member id inside the library's serialised form ("CGMDv2:", generation as int32 in host
/// order, group and member id, each with a NUL), as the opaque type has no getters before 2.4. Of
/// an unknown form the id is asked for. Nothing without a generation or an id: then we are no
/// member.
std::optional<std::string> find_member(rd_kafka_t* handle,
                                       const rd_kafka_consumer_group_metadata_t* metadata) {
  constexpr std::string_view kMagic = "CGMDv2:";
  void* buffer = nullptr;
  std::size_t size = 0;
  const KafkaError error(rd_kafka_consumer_group_metadata_write(metadata, &buffer, &size));
  std::string bytes;
  if (!error && buffer != nullptr) {
    bytes.assign(static_cast<const char*>(buffer), size);
    rd_kafka_mem_free(nullptr, buffer);
  }
  std::string id;
  std::int32_t generation = 0;
  constexpr std::size_t kGroup = kMagic.size() + sizeof(generation);
  const std::size_t group_end = bytes.find('\0', kGroup);
  if (bytes.starts_with(kMagic) && group_end != std::string::npos) {
    std::memcpy(&generation, bytes.data() + kMagic.size(), sizeof(generation));
    id = bytes.c_str() + group_end + 1;  // NOLINT(*-pointer-arithmetic): ends at its own NUL
  } else if (char* asked = rd_kafka_memberid(handle); asked != nullptr) {
    id = asked;
    rd_kafka_mem_free(handle, asked);
  }
  return generation == kNoGeneration || id.empty() ? std::nullopt : std::optional(id);
}

std::optional<std::string> find_member(rd_kafka_t* handle) {
  const KafkaGroupMetadata metadata(rd_kafka_consumer_group_metadata(handle));
  return metadata ? find_member(handle, metadata.get()) : std::nullopt;
}

/// Whoever has not answered a revoke within max.poll.interval.ms is put out of the group, should
/// another rebalance begin meanwhile.
std::chrono::milliseconds find_handover_limit(const WorkerConfig& config,
                                              const KafkaProperties& properties) {
  const auto found = properties.find("max.poll.interval.ms");
  const std::int64_t interval =
      found == properties.end() ? INT64_MAX : std::strtoll(found->second.c_str(), nullptr, 10);
  return std::chrono::milliseconds(
      std::min<std::int64_t>(config.handover_limit_ms, interval / 4 * 3));
}

}  // namespace

Consumer::Consumer(const WorkerConfig& config,
                   const KafkaProperties& properties,
                   const std::string& topic,
                   ConsumerListener& listener)
    : config_(config),
      listener_(listener),
      handover_limit_(find_handover_limit(config, properties)) {
  KafkaConf conf = make_conf(properties);
  rd_kafka_conf_set_opaque(conf.get(), this);
  rd_kafka_conf_set_rebalance_cb(conf.get(), on_rebalance);
  handle_ = make_handle(RD_KAFKA_CONSUMER, std::move(conf));
  rd_kafka_poll_set_consumer(handle_.get());
  queue_.reset(rd_kafka_queue_get_consumer(handle_.get()));
  const std::uint64_t one = 1;
  rd_kafka_queue_io_event_enable(queue_.get(), wake_up_.descriptor(), &one, sizeof(one));
  const TopicPartition all{topic, RD_KAFKA_PARTITION_UA};
  const auto error = rd_kafka_subscribe(handle_.get(), make_partitions(std::span(&all, 1)).get());
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
  // Destroying a cooperative member that has never been assigned anything can crash (2.0.2 to 2.2).
  constexpr int kDestroyFixed = 0x020300ff;
  if (handle_ && !has_joined_ && rd_kafka_version() < kDestroyFixed) {
    leave_running(std::move(handle_));
  }
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
  // With an offset of ours the library asks for none: a partition whose committed offset it was
  // refused, as while the coordinator moves, it never reads from (librdkafka issue 5586).
  for (rd_kafka_topic_partition_t& partition :
       std::span(list->elems, static_cast<std::size_t>(list->cnt))) {
    partition.offset = kParked;
  }
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
  for (TopicPartition& partition : to_vector(list)) {
    paused_.insert(partition);
    suspended_.insert(std::move(partition));
  }
  // This may be the end of a rebalance whose member is gone by now; another one follows then.
  const std::optional<std::string> member = find_member(handle_.get());
  if (!member) {
    return;
  }
  member_ = *member;
  const std::vector<TopicPartition> assigned(suspended_.begin(), suspended_.end());
  owned_.merge(suspended_);
  listener_.on_assigned(assigned);
}

void Consumer::revoke(rd_kafka_topic_partition_list_t* list) {
  finish_handover();
  const bool is_lost = rd_kafka_assignment_lost(handle_.get()) != 0;
  if (is_lost || is_closing_ || !is_cooperative(handle_.get())) {
    give_up(list, is_lost ? Revocation::kLost : Revocation::kRevoked);
    return;
  }
  handover_ = Handover{.list = KafkaPartitions(rd_kafka_topic_partition_list_copy(list)),
                       .partitions = owned_of(list),
                       .deadline = Clock::now() + handover_limit_};
  serve_handover();
}

std::vector<TopicPartition> Consumer::owned_of(const rd_kafka_topic_partition_list_t* list) const {
  std::vector<TopicPartition> partitions = to_vector(list);
  std::erase_if(partitions, [&](const auto& partition) { return !owned_.contains(partition); });
  return partitions;
}

void Consumer::give_up(rd_kafka_topic_partition_list_t* list, Revocation kind) {
  const std::vector<TopicPartition> told = owned_of(list);
  if (!told.empty() || list->cnt == 0) {
    listener_.on_revoked(told, kind);
  }
  for (const TopicPartition& partition : to_vector(list)) {
    owned_.erase(partition);
    suspended_.erase(partition);
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

void Consumer::serve_handover() {
  if (handover_ && (handover_->partitions.empty() || Clock::now() >= handover_->deadline ||
                    listener_.may_give_up(handover_->partitions, handover_limit_))) {
    finish_handover();
  }
}

void Consumer::finish_handover() {
  if (handover_) {
    const Handover handover = std::move(*handover_);
    handover_.reset();
    give_up(handover.list.get(), Revocation::kRevoked);
  }
}

// The library tells of a lost membership only when no rebalance is under way (rd_kafka_cgrp.c,
// revoke_all_rejoin_maybe), and a delayed hand-over is one. The broker has given our partitions to
// others then, and may give them back to us: never with what we knew about them before.
void Consumer::suspend() {
  const std::vector<TopicPartition> lost(owned_.begin(), owned_.end());
  suspended_.merge(owned_);
  owned_.clear();
  for (const TopicPartition& partition : lost) {
    if (paused_.insert(partition).second) {
      rd_kafka_pause_partitions(handle_.get(), make_partitions(std::span(&partition, 1)).get());
    }
  }
  listener_.on_revoked(lost, Revocation::kLost);
  finish_handover();
}

void Consumer::check() {
  if (!owned_.empty() && find_member(handle_.get()) != member_) {
    suspend();
  }
  serve_handover();
}

bool Consumer::start(const TopicPartition& partition, std::optional<std::int64_t> offset) {
  const KafkaPartitions list = make_partitions(std::span(&partition, 1));
  list->elems[0].offset = offset.value_or(RD_KAFKA_OFFSET_INVALID);
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

KafkaGroupMetadata Consumer::group_metadata() {
  KafkaGroupMetadata metadata(rd_kafka_consumer_group_metadata(handle_.get()));
  if (owned_.empty() || !metadata || find_member(handle_.get(), metadata.get()) != member_) {
    return nullptr;  // what it means for the partitions is check()'s work
  }
  return metadata;
}

void Consumer::begin_close() {
  if (std::exchange(is_closing_, true)) {
    return;
  }
  finish_handover();
  const KafkaError error(rd_kafka_consumer_close_queue(handle_.get(), queue_.get()));
  if (error) {
    warn("close", rd_kafka_error_string(error.get()));
  }
}

bool Consumer::is_closed() {
  // Records that are still in the queue are nobody's.
  while (KafkaMessage(rd_kafka_consumer_poll(handle_.get(), 0))) {
  }
  return rd_kafka_consumer_closed(handle_.get()) != 0;
}

}  // namespace onnxferry
