#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
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

/// CloudEvents' two ways into a Kafka record: attributes in headers, or all of it in the value.
enum class ContentMode : std::uint8_t { kBinary, kStructured };
enum class Encoding : std::uint8_t { kProtobuf, kJson };

inline constexpr std::string_view kContentType = "content-type";
inline constexpr std::string_view kCorrelationId = "kafka_correlationId";
inline constexpr std::string_view kReplyTopic = "kafka_replyTopic";
inline constexpr std::string_view kReplyPartition = "kafka_replyPartition";
inline constexpr std::string_view kTraceparent = "traceparent";
inline constexpr std::string_view kTracestate = "tracestate";

// What a record of the retry topic has besides the original's headers; README.md, "Retry topic".
inline constexpr std::string_view kRetryRequestId = "onnxferry-request-id";
inline constexpr std::string_view kRetryAttempt = "onnxferry-attempt";
inline constexpr std::string_view kRetryNotBefore = "onnxferry-not-before";
inline constexpr std::string_view kOriginalTopic = "onnxferry-original-topic";
inline constexpr std::string_view kOriginalPartition = "onnxferry-original-partition";
inline constexpr std::string_view kOriginalOffset = "onnxferry-original-offset";
inline constexpr std::string_view kOriginalTimestampType = "onnxferry-original-timestamp-type";
inline constexpr std::string_view kSpringAttempts = "retry_topic-attempts";
inline constexpr std::string_view kSpringBackoffTimestamp = "retry_topic-backoff-timestamp";
inline constexpr std::string_view kSpringOriginalTimestamp = "retry_topic-original-timestamp";

inline constexpr std::string_view kTypeRequested = "dev.onnxferry.export.requested.v1";
inline constexpr std::string_view kTypeCompleted = "dev.onnxferry.export.completed.v1";
inline constexpr std::string_view kTypeFailed = "dev.onnxferry.export.failed.v1";
inline constexpr std::string_view kTypeCancelled = "dev.onnxferry.export.cancelled.v1";
inline constexpr std::string_view kTypeProgress = "dev.onnxferry.export.progress.v1";
inline constexpr std::string_view kTypeCancelRequested = "dev.onnxferry.export.cancel.requested.v1";

/// An integer as Spring Kafka writes it into a header.
template <typename Integer>
std::string to_big_endian(Integer value) {
  auto bits = static_cast<std::make_unsigned_t<Integer>>(value);
  std::string bytes(sizeof(value), '\0');
  for (auto byte = bytes.rbegin(); byte != bytes.rend(); ++byte) {
    *byte = static_cast<char>(bits & 0xFFU);
    bits = static_cast<std::make_unsigned_t<Integer>>(bits >> 8U);
  }
  return bytes;
}

/// \return nullopt when there are not exactly as many bytes as the type has
template <typename Integer>
std::optional<Integer> from_big_endian(std::string_view bytes) {
  if (bytes.size() != sizeof(Integer)) {
    return std::nullopt;
  }
  std::make_unsigned_t<Integer> bits = 0;
  for (const char byte : bytes) {
    bits =
        static_cast<std::make_unsigned_t<Integer>>((bits << 8U) | static_cast<std::uint8_t>(byte));
  }
  return static_cast<Integer>(bits);
}

/// The last header of that name (Kafka allows several; the last one wins, as in Kafka's own
/// clients). Absent and null both give nullptr. Names are compared byte for byte, but for
/// content-type, which is also found in any letter case.
const std::string* find_header(const Headers& headers, std::string_view name);

}  // namespace onnxferry::messages
