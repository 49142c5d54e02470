#pragma once

#include <chrono>
#include <string>

#include <google/protobuf/timestamp.pb.h>

namespace onnxferry::messages {

google::protobuf::Timestamp to_timestamp(std::chrono::system_clock::time_point time);

/// Clamped to what the clock can hold.
/// \pre is_in_range(timestamp)
std::chrono::system_clock::time_point to_time_point(const google::protobuf::Timestamp& timestamp);

/// RFC 3339 in UTC with as many fraction digits (0, 3, 6 or 9) as needed: "2026-12-01T00:00:00Z".
std::string to_rfc3339(std::chrono::system_clock::time_point time);
/// \pre is_in_range(timestamp)
std::string to_rfc3339(const google::protobuf::Timestamp& timestamp);

/// \return false when the text is not an RFC 3339 time ("Z" or an offset is required)
bool parse_rfc3339(const std::string& text, google::protobuf::Timestamp& timestamp);

/// Years 0001 to 9999 and 0 to 999,999,999 nanoseconds: what a Timestamp may hold.
bool is_in_range(const google::protobuf::Timestamp& timestamp);

}  // namespace onnxferry::messages
