#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace onnxferry {

using TraceId = std::array<std::uint8_t, 16>;
using SpanId = std::array<std::uint8_t, 8>;

/// What a `traceparent` says: which span of which trace, and whether the trace is recorded.
struct TraceContext {
  TraceId trace_id{};
  SpanId span_id{};
  std::uint8_t flags = 0;  ///< sampled and random; others are not passed on

  [[nodiscard]] bool is_sampled() const;
  bool operator==(const TraceContext&) const = default;
};

/// Read a `traceparent` header. Versions after 00 may have more fields, which are ignored.
/// \return nullopt for anything that the specification calls invalid
/// Source: W3C Trace Context, section 3.2.
std::optional<TraceContext> parse_traceparent(std::string_view text);

/// The same as text, version 00.
std::string to_traceparent(const TraceContext& context);

/// Names and values of the attributes. Source: OpenTelemetry semantic conventions 1.36.0, "Kafka"
/// and "Recording errors"; the messaging part is not stable yet, so the version is pinned: a newer
/// one renames here, and nowhere else.
namespace attribute {
inline constexpr std::string_view kSchemaUrl = "https://opentelemetry.io/schemas/1.36.0";
inline constexpr std::string_view kSystem = "messaging.system";
inline constexpr std::string_view kSystemKafka = "kafka";
inline constexpr std::string_view kOperationName = "messaging.operation.name";
inline constexpr std::string_view kOperationType = "messaging.operation.type";
inline constexpr std::string_view kProcess = "process";
inline constexpr std::string_view kSend = "send";
inline constexpr std::string_view kDestination = "messaging.destination.name";
inline constexpr std::string_view kPartition = "messaging.destination.partition.id";
inline constexpr std::string_view kOffset = "messaging.kafka.offset";
inline constexpr std::string_view kGroup = "messaging.consumer.group.name";
inline constexpr std::string_view kErrorType = "error.type";
inline constexpr std::string_view kServiceName = "service.name";
inline constexpr std::string_view kServiceVersion = "service.version";
inline constexpr std::string_view kHostName = "host.name";
// Our own.
inline constexpr std::string_view kRequestId = "onnxferry.request_id";
inline constexpr std::string_view kAttempt = "onnxferry.attempt";
inline constexpr std::string_view kOutcome = "onnxferry.outcome";
inline constexpr std::string_view kTask = "onnxferry.task";
inline constexpr std::string_view kModelType = "onnxferry.model_type";
inline constexpr std::string_view kStage = "onnxferry.stage";
inline constexpr std::string_view kBytes = "onnxferry.bytes";
}  // namespace attribute

using AttributeValue = std::variant<std::string, std::int64_t>;
using Attributes = std::vector<std::pair<std::string_view, AttributeValue>>;

/// As OTLP numbers them.
enum class SpanKind : std::uint8_t { kInternal = 1, kProducer = 4, kConsumer = 5 };

/// Whether the parent span was made by another process.
enum class ParentOrigin : std::uint8_t { kLocal, kRemote };

/// A finished span.
struct Span {
  TraceContext context;
  std::optional<SpanId> parent;
  ParentOrigin parent_origin = ParentOrigin::kLocal;
  std::string trace_state;
  std::string name;
  SpanKind kind = SpanKind::kInternal;
  std::chrono::system_clock::time_point start;
  std::chrono::system_clock::time_point end;
  Attributes attributes;
  std::string error;  ///< an error code; empty: none
};

/// Takes finished spans. Must neither block nor throw for the sake of a span.
class SpanSink {
 public:
  SpanSink() = default;
  virtual ~SpanSink() = default;
  SpanSink(const SpanSink&) = delete;
  SpanSink& operator=(const SpanSink&) = delete;
  virtual void add(Span span) = 0;
};

/// Names and values that say who made the spans.
using ResourceAttributes = std::vector<std::pair<std::string, std::string>>;

/// The body of a request to /v1/traces: ExportTraceServiceRequest as OTLP/JSON, ids in hex, 64-bit
/// numbers as strings, enumerations as numbers. Bytes that are not UTF-8 are replaced.
/// Source: OTLP specification 1.7, "JSON Protobuf Encoding".
std::string to_otlp_json(std::span<const Span> spans, const ResourceAttributes& resource);

/// Fills with random bytes.
using RandomBytes = std::function<void(std::span<std::uint8_t>)>;

/// From OpenSSL's generator. \throws Error{kInternal} when the system has no random bytes
void fill_random(std::span<std::uint8_t> bytes);

/// \return an id that is not all zero, as the specification demands
TraceId make_trace_id(const RandomBytes& random);
SpanId make_span_id(const RandomBytes& random);

}  // namespace onnxferry
