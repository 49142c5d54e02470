#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "messages/headers.h"
#include "worker/kafka_client.h"
#include "worker/offset_tracker.h"

namespace onnxferry {

/// What becomes of a record whose topic does not exist or may not be used.
enum class MissingTopic : std::uint8_t {
  kFallBack,  ///< it goes to `fallback_topic`; without that one nothing is committed
  kLeaveOut,  ///< it is left out, with an ERROR line
  kRefuse,    ///< nothing is committed; the result names the topic
};

struct OutgoingRecord {
  std::string topic;
  MissingTopic when_missing = MissingTopic::kLeaveOut;
  std::string fallback_topic;
  std::optional<std::int32_t> partition;
  std::optional<std::string> key;
  std::optional<std::string> value;
  messages::Headers headers;
};

struct PartitionCommit {
  TopicPartition partition;
  CommittedOffset state;
};

/// What one member of the group commits, with its proof of membership.
struct MemberCommit {
  KafkaGroupMetadata group;
  std::vector<PartitionCommit> partitions;
};

/// One commit: all of it becomes visible, or nothing.
struct Transaction {
  std::uint64_t id = 0;
  /// Replies, dead letters, moves to the retry topic; none when an attempt starts.
  std::vector<OutgoingRecord> records;
  std::vector<MemberCommit> commits;
};

enum class TransactionOutcome : std::uint8_t {
  kCommitted,
  kAborted,       ///< nothing happened; ours to try again
  kAbortedGroup,  ///< nothing happened, as the group has moved on: check ownership first
  kUnknown,       ///< read the committed offsets: they alone say what happened
};

struct TransactionResult {
  std::uint64_t id = 0;
  TransactionOutcome outcome = TransactionOutcome::kUnknown;
  std::string reason;
  std::string missing_topic;  ///< kAborted before it began, as a record must not go elsewhere
  std::string clash;  ///< not empty: another process uses our transactional.id; end this one
};

}  // namespace onnxferry
