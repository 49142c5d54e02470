#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace onnxferry::messages {

/// One Kafka record header. Values are bytes; a null value differs from an empty one.
struct Header {
  std::string name;
  std::optional<std::string> value;

  bool operator==(const Header&) const = default;
};
using Headers = std::vector<Header>;

/// Where a record stands. It names a job: the same record is the same job whoever reads it.
struct RecordPosition {
  std::string topic;
  std::int32_t partition = 0;
  std::int64_t offset = 0;

  bool operator==(const RecordPosition&) const = default;
};

enum class Encoding : std::uint8_t { kProtobuf, kJson };

inline constexpr std::string_view kContentType = "content-type";
inline constexpr std::string_view kCorrelationId = "kafka_correlationId";
inline constexpr std::string_view kReplyTopic = "kafka_replyTopic";
inline constexpr std::string_view kReplyPartition = "kafka_replyPartition";
inline constexpr std::string_view kTraceparent = "traceparent";
inline constexpr std::string_view kTracestate = "tracestate";

inline constexpr std::string_view kTypeRequested = "dev.onnxferry.export.requested.v1";
inline constexpr std::string_view kTypeCompleted = "dev.onnxferry.export.completed.v1";
inline constexpr std::string_view kTypeFailed = "dev.onnxferry.export.failed.v1";
inline constexpr std::string_view kTypeCancelled = "dev.onnxferry.export.cancelled.v1";
inline constexpr std::string_view kTypeProgress = "dev.onnxferry.export.progress.v1";
inline constexpr std::string_view kTypeCancelRequested = "dev.onnxferry.export.cancel.requested.v1";

/// The last header of that name (Kafka allows several; the last one wins, as in Kafka's own
/// clients). Absent and null both give nullptr. Names are compared byte for byte, but for
/// content-type, which is also found in any letter case.
const std::string* find_header(const Headers& headers, std::string_view name);

}  // namespace onnxferry::messages
