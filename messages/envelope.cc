#include "messages/envelope.h"

#include <algorithm>

#include <fmt/format.h>

#include "messages/json_scan.h"
#include "messages/text.h"

namespace onnxferry::messages {
namespace {

constexpr std::size_t kMaxIdBytes = 256;
constexpr std::size_t kMaxTopicBytes = 249;  // Kafka's own bound
constexpr std::size_t kMaxTraceBytes = 512;  // W3C Trace Context 3.3.1.5: tracestate's minimum

void read_content_type(std::string_view value, const Headers& headers, EnvelopeReading& reading) {
  // '{' would be the start of group 15 in protobuf, which the contract has not.
  const bool looks_like_json = !value.empty() && value.front() == '{';
  Envelope& envelope = reading.envelope;
  envelope.encoding = looks_like_json ? Encoding::kJson : Encoding::kProtobuf;
  envelope.content_type = looks_like_json ? kJsonType : kProtobufType;
  const std::string* header = find_header(headers, kContentType);
  if (header == nullptr) {
    return;
  }
  const std::string type = media_type(*header);
  if (type == kJsonType) {
    envelope.encoding = Encoding::kJson;
    envelope.content_type = kJsonType;
  } else if (type == kProtobufType || type == "application/protobuf") {
    envelope.encoding = Encoding::kProtobuf;
    envelope.content_type = type;
  } else {
    reading.is_readable = false;
    reading.problems.push_back(
        make_problem(kContentType,
                     fmt::format("found {}, expected application/json, application/x-protobuf, "
                                 "application/protobuf or application/cloudevents+json",
                                 quote(*header))));
  }
}

void read_cloud_event(const Headers& headers, EnvelopeReading& reading) {
  if (const auto* version = find_header(headers, "ce_specversion");
      version != nullptr && *version != "1.0") {
    reading.problems.push_back(
        make_problem("ce_specversion", fmt::format("found {}, expected 1.0", quote(*version))));
  }
  if (const auto* type = find_header(headers, "ce_type");
      type != nullptr && *type != kTypeRequested) {
    reading.problems.push_back(make_problem(
        "ce_type", fmt::format("found {}, expected {}", quote(*type), kTypeRequested)));
  }
  if (const auto* source = find_header(headers, "ce_source");
      source != nullptr && source->empty()) {
    reading.problems.push_back(make_problem("ce_source", "empty; expected a URI reference"));
  }
  if (const auto* id = find_header(headers, "ce_id")) {
    if (is_request_id(*id)) {
      reading.envelope.request_id = *id;
    } else {
      reading.problems.push_back(make_problem(
          "ce_id", fmt::format("found {}, expected 1 to 256 printable bytes", quote(*id))));
    }
  }
}

bool is_topic(std::string_view name) {
  const auto is_legal = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kMaxTopicBytes && name != "." && name != ".." &&
         std::ranges::all_of(name, is_legal);
}

void read_reply_route(const Headers& headers, EnvelopeReading& reading) {
  Envelope& envelope = reading.envelope;
  if (const auto* id = find_header(headers, kCorrelationId)) {
    envelope.correlation_id = *id;
  }
  if (const auto* topic = find_header(headers, kReplyTopic)) {
    if (is_topic(*topic)) {
      envelope.reply_topic = *topic;
    } else {
      reading.problems.push_back(make_problem(
          kReplyTopic, fmt::format("{} is not a topic name; expected UTF-8 text", quote(*topic))));
    }
  }
  if (const auto* partition = find_header(headers, kReplyPartition)) {
    // Spring's ReplyingKafkaTemplate: a big-endian int.
    std::uint32_t number = 0;
    for (const char c : *partition) {
      number = (number << 8U) | static_cast<std::uint8_t>(c);
    }
    if (partition->size() == 4 && number <= 0x7FFFFFFFU) {
      envelope.reply_partition = static_cast<std::int32_t>(number);
    } else {
      reading.problems.push_back(make_problem(
          kReplyPartition,
          fmt::format("found {} bytes {}, expected a 4-byte big-endian partition number",
                      partition->size(),
                      quote(*partition))));
    }
  }
}

/// Tracing never fails a request: what is not usable is dropped.
std::optional<std::string> find_trace(const Headers& headers, std::string_view name) {
  const std::string* value = find_header(headers, name);
  if (value == nullptr) {  // CloudEvents' distributed tracing extension
    value = find_header(headers, fmt::format("ce_{}", name));
  }
  return value != nullptr && !value->empty() && value->size() <= kMaxTraceBytes
             ? std::optional(*value)
             : std::nullopt;
}

}  // namespace

std::string media_type(std::string_view content_type) {
  content_type = content_type.substr(0, content_type.find(';'));
  while (!content_type.empty() && content_type.front() == ' ') {
    content_type.remove_prefix(1);
  }
  while (!content_type.empty() && content_type.back() == ' ') {
    content_type.remove_suffix(1);
  }
  std::string type(content_type);
  std::ranges::transform(type, type.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return type;
}

bool is_request_id(std::string_view id) {
  const auto is_control = [](char c) { return static_cast<std::uint8_t>(c) < 0x20 || c == 0x7F; };
  return !id.empty() && id.size() <= kMaxIdBytes && std::ranges::none_of(id, is_control) &&
         to_valid_utf8(id) == id;
}

EnvelopeReading read_envelope(std::string_view value, const Headers& headers) {
  EnvelopeReading reading;
  read_content_type(value, headers, reading);
  read_cloud_event(headers, reading);
  read_reply_route(headers, reading);
  reading.envelope.traceparent = find_trace(headers, kTraceparent);
  reading.envelope.tracestate = find_trace(headers, kTracestate);
  return reading;
}

}  // namespace onnxferry::messages
