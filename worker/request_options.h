#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "onnxferry/v1/export.pb.h"
#include "pipeline/options.h"

namespace onnxferry {

/// What an export takes from its record rather than from the request itself.
struct RequestContext {
  std::string export_timestamp;  ///< RFC 3339 UTC: the Kafka record's time
  /// The clock that expires_at is compared with; absent: not compared (a job that has started).
  std::optional<std::chrono::system_clock::time_point> now;
};

/// Check a whole request and turn it into options.
///
/// \param request  decoded; request_id set (messages::decode_request does both)
/// \throws Error{kInvalidRequest} with every problem of the request, each with its field path;
///         Error{kUnsupportedOption} when the request is valid but asks for what this build does
///         not offer, with every such field; Error{kDeadlineExceeded} when it has expired
/// Thread: any; no shared state.
ExportOptions to_export_options(const v1::ExportRequest& request, const RequestContext& context);

/// When the request expires; absent: never.
std::optional<std::chrono::system_clock::time_point> find_expiry(const v1::ExportRequest& request);

}  // namespace onnxferry
