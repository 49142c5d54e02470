#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/stage_name.h"

namespace onnxferry {

/// Why a job ended without a result. The set is closed: it is part of the reply contract and a
/// metric label. Adding one means: this enum, one row of `error_code_table()`, the proto enum, and
/// the README table.
enum class ErrorCode : std::uint8_t {
  kInvalidRequest,
  kSourceNotFound,
  kPermissionDenied,
  kCorruptArchive,
  kCorruptCheckpoint,
  kUnsupportedModel,
  kConfigCopyFailed,
  kLimitExceeded,
  kDestinationConflict,
  kVerificationFailed,
  kUnsupportedOption,
  kDestinationNotFound,
  kUnavailable,
  kResourceExhausted,
  kDeadlineExceeded,
  kCancelled,
  kCrashed,
  kInternal,
};

struct ErrorCodeRow {
  ErrorCode code;
  std::string_view name;     ///< as spelled in replies, logs and metrics, e.g. "CORRUPT_ARCHIVE"
  bool retryable;            ///< the worker itself tries again before it answers
  std::string_view meaning;  ///< one sentence for operators
};

/// Every code exactly once, in enum order.
std::span<const ErrorCodeRow> error_code_table();
const ErrorCodeRow& describe(ErrorCode code);
std::optional<ErrorCode> find_error_code(std::string_view name);

/// One problem of a request: which field, what was found and what was expected.
struct FieldProblem {
  std::string field;  ///< path as the sender wrote it, e.g. "verify.level"
  std::string text;
};

/// The one exception that ends a job. Thrown where the failure is known, caught once (run_job or
/// the command line), turned into a reply. `message` says what was found, what was expected and
/// what to do: lower case, no final period; a hint comes after ';'.
class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message, std::string subject = {})
      : code_(code), message_(std::move(message)), subject_(std::move(subject)) {}

  [[nodiscard]] ErrorCode code() const { return code_; }
  [[nodiscard]] const std::string& message() const { return message_; }
  /// The tensor, config key, file or object that the message is about; may be empty.
  [[nodiscard]] const std::string& subject() const { return subject_; }
  /// Set by in_stage when the error passes through it.
  [[nodiscard]] std::optional<Stage> stage() const { return stage_; }
  [[nodiscard]] const std::vector<FieldProblem>& problems() const { return problems_; }
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

  void set_stage(Stage stage) { stage_ = stage; }
  void set_problems(std::vector<FieldProblem> problems) { problems_ = std::move(problems); }

 private:
  ErrorCode code_;
  std::string message_;
  std::string subject_;
  std::optional<Stage> stage_;
  std::vector<FieldProblem> problems_;
};

/// Throw Error{kInternal} naming file and line.
[[noreturn]] void throw_internal(const char* file, int line, std::string_view what);

}  // namespace onnxferry

/// For our own bugs only; never reachable from input.
#define EXPORT_CHECK(condition, what)                        \
  do {                                                       \
    if (!(condition)) {                                      \
      ::onnxferry::throw_internal(__FILE__, __LINE__, what); \
    }                                                        \
  } while (false)
