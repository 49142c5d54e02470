#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

#include "messages/headers.h"
#include "onnxferry/v1/export.pb.h"
#include "pipeline/error.h"
#include "pipeline/report.h"

namespace onnxferry {

/// Everything of a reply but its outcome.
struct ReplyContext {
  v1::ExportRequest request;  ///< as far as it was readable; request_id set
  std::uint32_t attempt = 1;
  v1::WorkerInfo worker;
  std::chrono::system_clock::time_point started_at;
  std::chrono::system_clock::time_point finished_at;
  std::vector<v1::StageReport> stages;
};

v1::StageReport to_message(const StageTiming& timing);
v1::ExportResult to_message(const ExportReport& report);

/// Secrets (keys, presigned URLs) are masked in message, subject and details.
v1::Failure to_message(const Error& error);

/// A failure that never was an Error: CRASHED, DEADLINE_EXCEEDED or CANCELLED found by the worker.
v1::Failure make_failure(ErrorCode code, std::string_view message, std::string_view stage = {});

/// RESOURCE_EXHAUSTED of a job that used up its CPU time: said by the job when it still can, else
/// by the worker.
v1::Failure make_cpu_failure(std::uint64_t limit_seconds, std::string_view stage);

/// The failure of a request that could not be decoded: INVALID_REQUEST with all its problems.
v1::Failure make_decode_failure(const std::vector<v1::FieldProblem>& problems);

v1::ExportReply make_reply(const ReplyContext& context, v1::ExportResult result);
v1::ExportReply make_reply(const ReplyContext& context, v1::Failure failure);

/// Shorten a reply until its encoded value has at most `max_bytes`.
///
/// Order: long warning texts, then warnings, outputs' and inputs' lists, the file list (its
/// manifest has everything), failure details, the failure's message, labels. A shortened result
/// says so: `truncated` and a warning REPLY_TRUNCATED.
/// \return whether it fits; false only when `max_bytes` is too small for an empty reply
bool trim_reply(v1::ExportReply& reply, messages::Encoding encoding, std::size_t max_bytes);

}  // namespace onnxferry
