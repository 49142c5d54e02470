#include "pipeline/verify/verify.h"

#include <utility>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/verify/checks.h"
#include "pipeline/verify/session.h"
#include "pipeline/verify/structure.h"

namespace onnxferry {
namespace {

constexpr double kFloatTolerance = 1e-4;
constexpr double kHalfTolerance = 5e-2;

SessionFactory& require_runtime(OnnxRuntime* runtime, VerifyLevel level) {
  auto* const factory = dynamic_cast<SessionFactory*>(runtime);
  if (factory == nullptr) {
    throw Error(
        ErrorCode::kUnsupportedOption,
        fmt::format("verification level {} needs ONNX Runtime, which is not available here; "
                    "use level structure or install it",
                    to_string(level)),
        "verify.level");
  }
  return *factory;
}

void verify_in_session(const CheckedModel& model,
                       const VerifyRequest& request,
                       SessionFactory& runtime,
                       const StageScope& scope,
                       VerificationReport& report) {
  const std::unique_ptr<Session> session = runtime.open(model, request.device);
  if (request.level < VerifyLevel::kRun) {
    return;
  }
  TextModel text_model(model, request, *session, scope);
  check_runs(text_model, request);
  if (request.level < VerifyLevel::kFull) {
    return;
  }
  const double tolerance = model.has_half_weights ? kHalfTolerance : kFloatTolerance;
  Ledger ledger(text_model.file(),
                {request.atol.value_or(tolerance), request.rtol.value_or(tolerance)});
  check_agreements(text_model, request, ledger, report.notes);
  report.outputs.insert(report.outputs.end(), ledger.checks().begin(), ledger.checks().end());
}

}  // namespace

VerificationReport verify(const VerifyRequest& request, OnnxRuntime* runtime, StageScope& scope) {
  VerificationReport report;
  if (request.level == VerifyLevel::kNone) {
    return report;
  }
  if (request.onnx_files.empty()) {
    throw Error(ErrorCode::kVerificationFailed, "there is no .onnx file to verify");
  }
  std::vector<CheckedModel> models;
  std::uint64_t total = 0;
  for (const std::string& file : request.onnx_files) {
    scope.check_cancelled();
    models.push_back(check_structure(request.directory, file));
    total += models.back().file_bytes;
    std::ranges::move(models.back().notes, std::back_inserter(report.notes));
  }
  scope.set_total(total);
  for (const CheckedModel& model : models) {
    scope.check_cancelled();
    if (request.level >= VerifyLevel::kLoad) {
      verify_in_session(model, request, require_runtime(runtime, request.level), scope, report);
    }
    scope.add_bytes(model.file_bytes);
  }
  report.level = to_string(request.level);
  return report;
}

}  // namespace onnxferry
