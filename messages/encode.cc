#include <chrono>
#include <stdexcept>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/json_util.h>

#include "messages/codec.h"
#include "messages/envelope.h"
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
};

/// Source: CloudEvents 1.0.2 Kafka protocol binding, section 3.2 (binary content mode).
Headers event_headers(const Event& event) {
  return {{"ce_specversion", "1.0"},
          {"ce_id", event.id},
          {"ce_source", std::string(event.source)},
          {"ce_type", std::string(event.type)},
          {"ce_subject", event.subject},
          {"ce_time", event.time},
          {std::string(kContentType), std::string(event.content_type)}};
}

void echo(const std::optional<std::string>& value, std::string_view name, Headers& headers) {
  if (value) {
    headers.push_back({std::string(name), value});
  }
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
  EncodedMessage message{.key = reply.request_id(),
                         .value = encode_value(reply, envelope.encoding),
                         .headers = event_headers({.id = event_id(reply.request_id(), type),
                                                   .type = type,
                                                   .source = source,
                                                   .subject = reply.request_id(),
                                                   .time = to_rfc3339(reply.finished_at()),
                                                   .content_type = envelope.content_type})};
  echo(envelope.correlation_id, kCorrelationId, message.headers);
  echo(envelope.traceparent, kTraceparent, message.headers);
  echo(envelope.tracestate, kTracestate, message.headers);
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
               .content_type = encoding == Encoding::kJson ? kJsonType : kProtobufType})};
}

std::string encode_value(const google::protobuf::Message& message, Encoding encoding) {
  return encoding == Encoding::kJson ? to_json(message, JsonStyle::kCompact) : to_protobuf(message);
}

std::string to_pretty_json(const google::protobuf::Message& message) {
  return to_json(message, JsonStyle::kPretty);
}

}  // namespace onnxferry::messages
