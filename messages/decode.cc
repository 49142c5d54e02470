#include <algorithm>

#include <fmt/format.h>
#include <google/protobuf/message.h>
#include <google/protobuf/unknown_field_set.h>
#include <google/protobuf/util/json_util.h>

#include "messages/codec.h"
#include "messages/envelope.h"
#include "messages/json_scan.h"
#include "messages/structured.h"
#include "messages/text.h"
#include "messages/uuid.h"

namespace onnxferry::messages {
namespace {

using Problems = std::vector<v1::FieldProblem>;

/// Read one varint off the front; nullopt when the bytes end.
std::optional<std::uint64_t> take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<std::uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
    if (byte < 0x80) {
      return value;
    }
  }
  return std::nullopt;
}

/// Strip Confluent's framing: 0x00, a 4-byte schema id and, for protobuf, the path of the message
/// within the schema as zigzag varints: count, then indexes; [0] is shortened to a single 0.
/// ExportRequest is the first message of its file, so [0] is the only path accepted. The id is not
/// looked up: the schema is compiled in.
bool strip_framing(std::string_view& value, Encoding encoding, Problems& problems) {
  if (value.empty() || value.front() != '\0') {
    return true;
  }
  constexpr std::size_t kHeaderBytes = 5;
  if (value.size() > kHeaderBytes) {
    value.remove_prefix(kHeaderBytes);
    if (encoding == Encoding::kJson) {
      return true;
    }
    const auto count = take_varint(value);
    if (count == 0 || (count == 2 && take_varint(value) == 0)) {  // zigzag(1) is 2
      return true;
    }
  }
  problems.push_back(make_problem("",
                                  "Confluent framing (first byte 0x00) of another message; "
                                  "expected schema id and message index "
                                  "[0], onnxferry.v1.ExportRequest"));
  return false;
}

void find_unknown_fields(const google::protobuf::Message& message,
                         const std::string& path,
                         Problems& problems) {
  const auto& reflection = *message.GetReflection();
  const auto& unknown = reflection.GetUnknownFields(message);
  for (int i = 0; i < unknown.field_count() && problems.size() < kMaxProblems; ++i) {
    problems.push_back(make_problem(
        join_path(path, fmt::format("#{}", unknown.field(i).number())),
        fmt::format("unknown field number {} of {}; the sender's schema is newer or another one",
                    unknown.field(i).number(),
                    message.GetDescriptor()->full_name())));
  }
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const auto* field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
      continue;
    }
    const std::string at = join_path(path, field->name());
    if (!field->is_repeated()) {
      find_unknown_fields(reflection.GetMessage(message, field), at, problems);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      find_unknown_fields(
          reflection.GetRepeatedMessage(message, field, i), fmt::format("{}[{}]", at, i), problems);
    }
  }
}

Problems parse_request_protobuf(std::string_view value, v1::ExportRequest& request) {
  Problems problems;
  if (!request.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    request.Clear();  // what was read up to the damage is not what the sender meant
    problems.push_back(make_problem(
        "", "the value is not a protobuf onnxferry.v1.ExportRequest; set content-type for JSON"));
    return problems;
  }
  find_unknown_fields(request, "", problems);
  return problems;
}

Problems decode_value(std::optional<std::string_view> value,
                      Encoding encoding,
                      v1::ExportRequest& request) {
  Problems problems;
  if (!value || value->empty()) {
    problems.push_back(make_problem("",
                                    value
                                        ? "the record's value is empty; expected an ExportRequest"
                                        : "the record's value is null; expected an ExportRequest"));
    return problems;
  }
  if (value->size() > kMaxRequestBytes) {
    problems.push_back(make_problem(
        "", fmt::format("{} bytes; at most {} are read", value->size(), kMaxRequestBytes)));
    return problems;
  }
  if (!strip_framing(*value, encoding, problems)) {
    return problems;
  }
  return encoding == Encoding::kJson ? parse_request_json(*value, request)
                                     : parse_request_protobuf(*value, request);
}

/// The request's own id, else ce_id, else one made from the record's place.
void settle_request_id(const RecordPosition& position, DecodedRequest& decoded) {
  std::string& id = decoded.envelope.request_id;
  if (!decoded.request.request_id().empty()) {
    if (is_request_id(decoded.request.request_id())) {
      id = decoded.request.request_id();
    } else {
      decoded.problems.push_back(
          make_problem("request_id",
                       fmt::format("found {}, expected 1 to 256 bytes without control characters",
                                   quote(decoded.request.request_id()))));
    }
  }
  if (id.empty()) {
    id = position_id(position);
  }
  decoded.request.set_request_id(id);
}

void add_path(std::string_view parent, Problems& problems) {
  for (v1::FieldProblem& problem : problems) {
    problem.set_field(problem.field().empty() ? std::string(parent)
                                              : join_path(parent, problem.field()));
  }
}

/// The reading of a structured event's binary form, its problems named as the sender wrote them.
void settle_structured(BinaryForm& event, EnvelopeReading& reading) {
  reading.envelope.mode = ContentMode::kStructured;
  reading.is_readable = reading.is_readable && event.is_readable;
  for (v1::FieldProblem& problem : reading.problems) {
    problem.set_field(attribute_of(problem.field()));
  }
  std::ranges::move(event.problems, std::back_inserter(reading.problems));
  if (!event.is_readable) {
    // Nothing is known of the data; the sender speaks JSON.
    reading.envelope.encoding = Encoding::kJson;
    reading.envelope.content_type = kJsonType;
  }
}

/// Only what a failure reply echoes.
v1::ExportRequest keep_labels(const v1::ExportRequest& request) {
  v1::ExportRequest kept;
  kept.set_request_id(request.request_id());
  kept.set_model_id(request.model_id());
  *kept.mutable_labels() = request.labels();
  return kept;
}

}  // namespace

DecodedRequest decode_request(std::optional<std::string_view> value,
                              const Headers& headers,
                              const RecordPosition& position) {
  std::optional<BinaryForm> event;
  if (value && is_structured(headers)) {
    event = to_binary_form(*value, headers);
    value = event->data;
  }
  EnvelopeReading reading = read_envelope(value.value_or(""), event ? event->headers : headers);
  if (event) {
    settle_structured(*event, reading);
  }
  DecodedRequest decoded{.envelope = std::move(reading.envelope),
                         .request = {},
                         .problems = std::move(reading.problems)};
  if (reading.is_readable) {
    Problems problems = decode_value(value, decoded.envelope.encoding, decoded.request);
    if (event) {
      add_path(event->data_field, problems);
    }
    decoded.problems.insert(decoded.problems.end(), problems.begin(), problems.end());
  }
  settle_request_id(position, decoded);
  if (!decoded.problems.empty()) {
    decoded.request = keep_labels(decoded.request);
  }
  return decoded;
}

namespace {

/// Whatever is readable of a cancel's value; an empty message otherwise.
v1::CancelRequest read_cancel_value(std::string_view value, Encoding encoding) {
  v1::CancelRequest cancel;
  bool is_read = true;
  if (encoding == Encoding::kProtobuf) {
    is_read = cancel.ParseFromArray(value.data(), static_cast<int>(value.size()));
  } else if (scan_json(value).complete) {
    google::protobuf::util::JsonParseOptions options;
    options.ignore_unknown_fields = true;
    is_read = google::protobuf::util::JsonStringToMessage(
                  google::protobuf::StringPiece(value.data(), value.size()), &cancel, options)
                  .ok();
  } else {
    is_read = false;
  }
  return is_read ? cancel : v1::CancelRequest();
}

}  // namespace

std::optional<CancelRecord> decode_cancel(const std::optional<std::string>& key,
                                          std::optional<std::string_view> value,
                                          const Headers& headers,
                                          std::string& problem) {
  if (!key || !is_request_id(*key)) {
    problem =
        fmt::format("key {}, expected a request id: 1 to 256 bytes without control characters",
                    key ? quote(*key) : "null");
    return std::nullopt;
  }
  CancelRecord record{.request_id = *key, .is_removed = !value.has_value(), .reason = {}};
  if (!value) {
    return record;
  }
  if (is_structured(headers)) {
    const BinaryForm event = to_binary_form(*value, headers);
    if (!event.is_readable) {
      return record;  // the key is enough
    }
    return decode_cancel(key, event.data, event.headers, problem);
  }
  const std::string* type = find_header(headers, "ce_type");
  if (type != nullptr && *type != kTypeCancelRequested) {
    problem = fmt::format("ce_type {}, expected {}", quote(*type), kTypeCancelRequested);
    return std::nullopt;
  }
  const v1::CancelRequest cancel =
      read_cancel_value(*value, read_envelope(*value, headers).envelope.encoding);
  if (!cancel.request_id().empty() && cancel.request_id() != *key) {
    problem = fmt::format("request_id {} in the value, key {}; they must agree",
                          quote(cancel.request_id()),
                          quote(*key));
    return std::nullopt;
  }
  record.reason = utf8_prefix(cancel.reason(), kMaxCancelReasonBytes);
  return record;
}

v1::ExportReply decode_reply(std::string_view value, const Headers& headers) {
  if (is_structured(headers)) {
    const BinaryForm event = to_binary_form(value, headers);
    if (!event.is_readable) {
      throw std::runtime_error("the reply is not a CloudEvent in JSON");
    }
    return decode_reply(event.data, event.headers);
  }
  const EnvelopeReading reading = read_envelope(value, headers);
  v1::ExportReply reply;
  if (reading.envelope.encoding == Encoding::kProtobuf) {
    if (!reply.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      throw std::runtime_error("the reply is not a protobuf onnxferry.v1.ExportReply");
    }
    return reply;
  }
  // A newer worker may add fields; an older reader skips them.
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(value.data(), value.size()), &reply, options);
  if (!status.ok()) {
    throw std::runtime_error("the reply is not an ExportReply in JSON: " +
                             std::string(status.message()));
  }
  return reply;
}

}  // namespace onnxferry::messages
