#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "messages/headers.h"
#include "onnxferry/v1/export.pb.h"

namespace onnxferry::messages {

inline constexpr std::size_t kMaxRequestBytes = 1U << 20U;

/// What a request's headers say and its reply needs. Complete whatever the request's value is.
struct Envelope {
  std::string request_id;                     ///< never empty; see decode_request
  Encoding encoding = Encoding::kProtobuf;    ///< the request's, hence the reply's
  std::string content_type;                   ///< likewise, of the data; never empty
  ContentMode mode = ContentMode::kBinary;    ///< likewise
  std::optional<std::string> correlation_id;  ///< bytes, echoed verbatim
  std::optional<std::string> reply_topic;
  std::optional<std::int32_t> reply_partition;
  std::optional<std::string> traceparent;
  std::optional<std::string> tracestate;
};

struct DecodedRequest {
  Envelope envelope;
  /// Complete when `problems` is empty; otherwise only request_id, model_id and labels as far as
  /// they were readable, for the failure reply.
  v1::ExportRequest request;
  /// Every problem found, at most some dozens; empty when the record could be decoded. What the
  /// values mean is checked later (worker/request_options).
  std::vector<v1::FieldProblem> problems;
};

/// Decode one record of a request topic. Never throws on input: whatever the bytes are, the
/// envelope allows a reply.
///
/// \param value  nullopt for a null value (a tombstone), which is a problem like an empty one
/// \return the request or its problems; `request_id` is the request's own, else ce_id, else a
///         UUIDv5 of topic/partition/offset; `request.request_id` is filled the same way
/// A request id from outside has 1 to 256 bytes and no control characters, anything else is a
/// problem and not used. Encodings: content-type application/json, application/x-protobuf or
/// application/protobuf; absent:
/// '{' means JSON, 0x00 Confluent framing around protobuf, everything else protobuf. With
/// application/cloudevents+json (structured mode) the value's attributes stand for the ce_ headers,
/// its datacontenttype for content-type, and problems are named by their path in the value.
DecodedRequest decode_request(std::optional<std::string_view> value,
                              const Headers& headers,
                              const RecordPosition& position);

/// A record ready to be produced; the topic is the caller's.
struct EncodedMessage {
  std::string key;
  std::string value;
  Headers headers;
};

/// Encode a terminal reply as a CloudEvent, in the request's encoding and mode.
///
/// ce_id is a UUIDv5 of (request_id, ce_type), so a duplicate is recognisable by anyone; ce_time is
/// finished_at; correlation id, traceparent and tracestate are echoed byte for byte.
/// \param source  ce_source, the URI reference of this fleet, e.g. "/onnxferry/my-group"
EncodedMessage encode_reply(const v1::ExportReply& reply,
                            const Envelope& envelope,
                            std::string_view source);

/// How long an encoded message may be so that the record's value has at most `max_bytes`: in
/// structured mode the attributes and base64 take their share.
std::size_t value_budget(const Envelope& envelope, std::size_t max_bytes);

/// ce_type of a terminal reply: completed, cancelled (failure.code CANCELLED) or failed.
std::string_view reply_type(const v1::ExportReply& reply);

/// Encode a request as a caller does, for `onnxferry submit` and tests.
/// \pre request.request_id() is not empty
EncodedMessage encode_request(const v1::ExportRequest& request,
                              Encoding encoding,
                              std::string_view source);

/// A record of the cancel topic. Its key is the command: it names the request.
struct CancelRecord {
  std::string request_id;
  std::int64_t timestamp_ms = -1;  ///< the record's; it applies to requests sent until then
  bool is_removed = false;         ///< a null value: an earlier cancel of this id is taken back
  std::string reason;              ///< UTF-8, at most kMaxCancelReasonBytes; may be empty
};
inline constexpr std::size_t kMaxCancelReasonBytes = 200;

/// Read a record of the cancel topic. The value only adds a reason: a CancelRequest in any encoding
/// of a request, or nothing; one that cannot be read costs the reason, not the cancel.
/// \return nullopt with `problem` filled when it cancels nothing: no usable key, another request id
///         in the value, another event type
std::optional<CancelRecord> decode_cancel(const std::optional<std::string>& key,
                                          std::optional<std::string_view> value,
                                          const Headers& headers,
                                          std::string& problem);

/// Encode a cancel as a caller does, for `onnxferry submit --cancel`. \pre request_id is not empty
EncodedMessage encode_cancel(const v1::CancelRequest& cancel, std::string_view source);

/// Encode a progress event, in the request's encoding and mode.
///
/// ce_sequence is `time` in milliseconds since 1970 and ce_id the UUIDv5 of (request_id, ce_type,
/// sequence); correlation id, traceparent and tracestate are echoed.
/// \pre progress.time is set
EncodedMessage encode_progress(const v1::ProgressEvent& progress,
                               const Envelope& envelope,
                               std::string_view source);

/// Decode a reply as a caller does. Problems are thrown as std::runtime_error: a reply is made by
/// onnxferry itself.
v1::ExportReply decode_reply(std::string_view value, const Headers& headers);

/// The value bytes of any contract message. JSON: snake_case names; requests leave fields at their
/// default out, everything else writes them.
std::string encode_value(const google::protobuf::Message& message, Encoding encoding);

/// The same JSON with line breaks, for people.
std::string to_pretty_json(const google::protobuf::Message& message);

/// Build a request from JSON text by the contract's rules (decode_request without headers).
/// \return every problem; empty when `request` was filled
std::vector<v1::FieldProblem> parse_request_json(std::string_view json, v1::ExportRequest& request);

}  // namespace onnxferry::messages
