#include "pipeline/error.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace onnxferry {
namespace {

using enum ErrorCode;

constexpr std::array<ErrorCodeRow, 18> kTable = {{
    {kInvalidRequest,
     "INVALID_REQUEST",
     false,
     "the request is wrong; every problem is listed with its field"},
    {kSourceNotFound, "SOURCE_NOT_FOUND", false, "the archive object does not exist"},
    {kPermissionDenied, "PERMISSION_DENIED", false, "the object store refused the credentials"},
    {kCorruptArchive, "CORRUPT_ARCHIVE", false, "the archive is damaged or unsafe to unpack"},
    {kCorruptCheckpoint,
     "CORRUPT_CHECKPOINT",
     false,
     "the checkpoint inside the archive is damaged or incomplete"},
    {kUnsupportedModel,
     "UNSUPPORTED_MODEL",
     false,
     "no builder for this model, or a config value that changes its math is unknown"},
    {kConfigCopyFailed,
     "CONFIG_COPY_FAILED",
     false,
     "a tokenizer or config file could not be copied"},
    {kLimitExceeded, "LIMIT_EXCEEDED", false, "the input passes a configured limit"},
    {kDestinationConflict,
     "DESTINATION_CONFLICT",
     false,
     "the destination prefix holds another export"},
    {kVerificationFailed,
     "VERIFICATION_FAILED",
     false,
     "the exported model does not load or its numbers are off"},
    {kUnsupportedOption,
     "UNSUPPORTED_OPTION",
     false,
     "a valid option that this build or worker does not offer"},
    {kDestinationNotFound,
     "DESTINATION_NOT_FOUND",
     false,
     "the bucket of output_dir does not exist"},
    {kUnavailable, "UNAVAILABLE", true, "a service stayed unavailable past the outage bound"},
    {kResourceExhausted,
     "RESOURCE_EXHAUSTED",
     true,
     "disk, memory or another local resource ran out"},
    {kDeadlineExceeded,
     "DEADLINE_EXCEEDED",
     false,
     "the request expired before its result was published"},
    {kCancelled, "CANCELLED", false, "the job was cancelled"},
    {kCrashed, "CRASHED", false, "the job process died on every attempt"},
    {kInternal, "INTERNAL", false, "a bug in onnxferry; the message names file and line"},
}};

}  // namespace

std::span<const ErrorCodeRow> error_code_table() {
  return kTable;
}

const ErrorCodeRow& describe(ErrorCode code) {
  return kTable.at(static_cast<std::size_t>(code));
}

std::optional<ErrorCode> find_error_code(std::string_view name) {
  const auto* const row = std::ranges::find(kTable, name, &ErrorCodeRow::name);
  return row == kTable.end() ? std::nullopt : std::optional(row->code);
}

void throw_internal(const char* file, int line, std::string_view what) {
  std::string_view path = file;
  const std::size_t at = path.rfind("pipeline/");  // machine paths do not belong in replies
  if (at != std::string_view::npos) {
    path.remove_prefix(at);
  }
  throw Error(ErrorCode::kInternal, fmt::format("{}:{}: {}; please report this", path, line, what));
}

}  // namespace onnxferry
