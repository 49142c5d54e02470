#include <algorithm>
#include <chrono>
#include <stdexcept>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/json_util.h>

#include "messages/codec.h"
#include "messages/envelope.h"
#include "messages/structured.h"
#include "messages/timestamps.h"
#include "messages/uuid.h"

namespace onnxferry::messages {
namespace {

enum class JsonStyle : std::uint8_t { kCompact, kPretty };

/// Replies name every plain field, also false, 0 and [], so that a reader needs no defaults;
/// requests only what was given.
bool writes_defaults(const google::protobuf::Message& message) {
  return message.GetDescriptor() != v1::ExportRequest::descriptor();
}

std::string to_json(const google::protobuf::Message& message, JsonStyle style) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = writes_defaults(message);
  options.add_whitespace = style == JsonStyle::kPretty;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) {
    throw std::runtime_error("a message cannot be written as JSON: " +
                             std::string(status.message()));
  }
  return json;
}

/// The same message gives the same bytes (maps sorted), so repeated replies are equal.
std::string to_protobuf(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return bytes;
}

struct Event {
  std::string id;
  std::string_view type;
  std::string_view source;
  std::string subject;
  std::string time;
  std::string_view content_type;
  std::string sequence;  ///< empty: the only event of its type
};

/// Source: CloudEvents 1.0.2 Kafka protocol binding, section 3.2 (binary content mode).
Headers event_headers(const Event& event) {
  Headers headers = {{"ce_specversion", "1.0"},
                     {"ce_id", event.id},
                     {"ce_source", std::string(event.source)},
                     {"ce_type", std::string(event.type)},
                     {"ce_subject", event.subject},
                     {"ce_time", event.time},
                     {std::string(kContentType), std::string(event.content_type)}};
  if (!event.sequence.empty()) {
    headers.push_back({"ce_sequence", event.sequence});
  }
  return headers;
}

/// Room for the attributes of a structured event.
constexpr std::size_t kAttributeBytes = 4096;

void echo(const std::optional<std::string>& value, std::string_view name, Headers& headers) {
  if (value) {
    headers.push_back({std::string(name), value});
  }
}

/// An event for the sender of a request, in its mode. `message.value` is the data and becomes the
/// whole event in structured mode.
void address(const Event& event, const Envelope& envelope, EncodedMessage& message) {
  if (envelope.mode == ContentMode::kStructured) {
    message.value = to_structured({{"specversion", "1.0"},
                                   {"id", event.id},
                                   {"source", std::string(event.source)},
                                   {"type", std::string(event.type)},
                                   {"subject", event.subject},
                                   {"time", event.time},
                                   {"datacontenttype", std::string(event.content_type)},
                                   {"sequence", event.sequence},
                                   {"traceparent", envelope.traceparent.value_or("")},
                                   {"tracestate", envelope.tracestate.value_or("")}},
                                  envelope.encoding,
                                  message.value);
    message.headers = {{std::string(kContentType), std::string(kStructuredType)}};
  } else {
    message.headers = event_headers(event);
  }
  echo(envelope.correlation_id, kCorrelationId, message.headers);
  echo(envelope.traceparent, kTraceparent, message.headers);
  echo(envelope.tracestate, kTracestate, message.headers);
}

}  // namespace

std::string_view reply_type(const v1::ExportReply& reply) {
  if (reply.has_result()) {
    return kTypeCompleted;
  }
  return reply.failure().code() == v1::CANCELLED ? kTypeCancelled : kTypeFailed;
}

EncodedMessage encode_reply(const v1::ExportReply& reply,
                            const Envelope& envelope,
                            std::string_view source) {
  const std::string_view type = reply_type(reply);
  EncodedMessage message{
      .key = reply.request_id(), .value = encode_value(reply, envelope.encoding), .headers = {}};
  address({.id = event_id(reply.request_id(), type),
           .type = type,
           .source = source,
           .subject = reply.request_id(),
           .time = to_rfc3339(reply.finished_at()),
           .content_type = envelope.content_type,
           .sequence = {}},
          envelope,
          message);
  return message;
}

std::size_t value_budget(const Envelope& envelope, std::size_t max_bytes) {
  if (envelope.mode == ContentMode::kBinary) {
    return max_bytes;
  }
  const std::size_t data = max_bytes - std::min(max_bytes, kAttributeBytes);
  return envelope.encoding == Encoding::kJson ? data : data / 4 * 3;
}

EncodedMessage encode_cancel(const v1::CancelRequest& cancel, std::string_view source) {
  return {.key = cancel.request_id(),
          .value = encode_value(cancel, Encoding::kJson),
          .headers = event_headers({.id = uuid4(),  // the same id may be cancelled again later
                                    .type = kTypeCancelRequested,
                                    .source = source,
                                    .subject = cancel.request_id(),
                                    .time = to_rfc3339(std::chrono::system_clock::now()),
                                    .content_type = kJsonType,
                                    .sequence = {}})};
}

EncodedMessage encode_progress(const v1::ProgressEvent& progress,
                               const Envelope& envelope,
                               std::string_view source) {
  const auto ms = static_cast<std::uint64_t>(progress.time().seconds() * 1000 +
                                             progress.time().nanos() / 1'000'000);
  EncodedMessage message{.key = progress.request_id(),
                         .value = encode_value(progress, envelope.encoding),
                         .headers = {}};
  address({.id = event_id(progress.request_id(), kTypeProgress, ms),
           .type = kTypeProgress,
           .source = source,
           .subject = progress.request_id(),
           .time = to_rfc3339(progress.time()),
           .content_type = envelope.content_type,
           .sequence = std::to_string(ms)},
          envelope,
          message);
  return message;
}

EncodedMessage encode_request(const v1::ExportRequest& request,
                              Encoding encoding,
                              std::string_view source) {
  return {.key = request.request_id(),
          .value = encode_value(request, encoding),
          .headers = event_headers(
              {.id = request.request_id(),
               .type = kTypeRequested,
               .source = source,
               .subject = request.request_id(),
               .time = to_rfc3339(std::chrono::system_clock::now()),
               .content_type = encoding == Encoding::kJson ? kJsonType : kProtobufType,
               .sequence = {}})};
}

std::string encode_value(const google::protobuf::Message& message, Encoding encoding) {
  return encoding == Encoding::kJson ? to_json(message, JsonStyle::kCompact) : to_protobuf(message);
}

std::string to_pretty_json(const google::protobuf::Message& message) {
  return to_json(message, JsonStyle::kPretty);
}

}  // namespace onnxferry::messages
