#pragma once

#include <string_view>
#include <vector>

#include "messages/codec.h"

namespace onnxferry::messages {

inline constexpr std::string_view kJsonType = "application/json";
inline constexpr std::string_view kProtobufType = "application/x-protobuf";

/// What the headers say, without the value but for its first byte.
struct EnvelopeReading {
  Envelope envelope;                       ///< request_id still empty when there is no usable ce_id
  std::vector<v1::FieldProblem> problems;  ///< header problems, `field` is the header's name
  bool is_readable = true;                 ///< false: the value's encoding is not one of ours
};

EnvelopeReading read_envelope(std::string_view value, const Headers& headers);

/// "Application/JSON; charset=utf-8" → "application/json".
std::string media_type(std::string_view content_type);

/// 1 to 256 bytes of UTF-8 without control characters.
bool is_request_id(std::string_view id);

}  // namespace onnxferry::messages
