#include "worker/reply.h"

#include <algorithm>
#include <functional>
#include <optional>

#include <fmt/format.h>

#include "messages/codec.h"
#include "messages/text.h"
#include "messages/timestamps.h"
#include "pipeline/storage/encoding.h"
#include "worker/problems.h"

namespace onnxferry {
namespace {

constexpr std::size_t kMaxMessageBytes = 4'000;  // of a failure; trimmed further when needed
constexpr std::size_t kShortText = 200;

v1::ErrorCode to_message(ErrorCode code) {
  v1::ErrorCode value = v1::INTERNAL;
  v1::ErrorCode_Parse(std::string(describe(code).name), &value);  // a test walks the table
  return value;
}

/// Text from archives, stores and libraries, made fit for a reply.
std::string clean(std::string_view text) {
  const std::string masked = messages::to_valid_utf8(mask_secrets(text));
  return std::string(messages::utf8_prefix(masked, kMaxMessageBytes));
}

void add_values(const std::vector<ValueReport>& values,
                google::protobuf::RepeatedPtrField<v1::GraphValue>& out) {
  for (const ValueReport& value : values) {
    v1::GraphValue& added = *out.Add();
    added.set_file(value.file);
    added.set_name(value.name);
    added.set_dtype(value.dtype);
    for (const std::string& dim : value.dims) {
      added.add_dims(dim);
    }
  }
}

v1::ExportReply make_frame(const ReplyContext& context) {
  v1::ExportReply reply;
  reply.set_request_id(context.request.request_id());
  reply.set_model_id(context.request.model_id());
  *reply.mutable_labels() = context.request.labels();
  reply.set_attempt(context.attempt);
  *reply.mutable_worker() = context.worker;
  *reply.mutable_started_at() = messages::to_timestamp(context.started_at);
  *reply.mutable_finished_at() = messages::to_timestamp(context.finished_at);
  for (const v1::StageReport& stage : context.stages) {
    *reply.add_stages() = stage;
  }
  return reply;
}

void shorten(std::string& text, std::size_t max_bytes) {
  if (text.size() > max_bytes) {
    text = std::string(messages::utf8_prefix(text, max_bytes - 3)) + "…";
  }
}

/// What trim_reply takes away, in its order. Each step returns whether it changed anything.
using TrimStep = std::function<bool(v1::ExportReply&)>;

bool shorten_warnings(v1::ExportReply& reply) {
  bool changed = false;
  for (v1::Warning& warning : *reply.mutable_result()->mutable_warnings()) {
    changed |= warning.text().size() > kShortText;
    shorten(*warning.mutable_text(), kShortText);
  }
  return changed;
}

template <typename List>
bool clear_list(List& list) {
  const bool changed = !list.empty();
  list = List();
  return changed;
}

const std::vector<TrimStep>& result_steps() {
  static const std::vector<TrimStep> steps = {
      shorten_warnings,
      [](v1::ExportReply& r) { return clear_list(*r.mutable_result()->mutable_warnings()); },
      [](v1::ExportReply& r) { return clear_list(*r.mutable_result()->mutable_outputs()); },
      [](v1::ExportReply& r) { return clear_list(*r.mutable_result()->mutable_inputs()); },
      [](v1::ExportReply& r) {
        return clear_list(*r.mutable_result()->mutable_verification()->mutable_outputs());
      },
      [](v1::ExportReply& r) { return clear_list(*r.mutable_result()->mutable_files()); },
      [](v1::ExportReply& r) { return clear_list(*r.mutable_labels()); },
  };
  return steps;
}

const std::vector<TrimStep>& failure_steps() {
  static const std::vector<TrimStep> steps = {
      [](v1::ExportReply& r) { return clear_list(*r.mutable_failure()->mutable_details()); },
      [](v1::ExportReply& r) {
        const bool changed =
            r.failure().message().size() > kShortText || r.failure().subject().size() > kShortText;
        shorten(*r.mutable_failure()->mutable_message(), kShortText);
        shorten(*r.mutable_failure()->mutable_subject(), kShortText);
        return changed;
      },
      [](v1::ExportReply& r) { return clear_list(*r.mutable_labels()); },
  };
  return steps;
}

/// The reply with its shortening stated.
v1::ExportReply marked(v1::ExportReply reply) {
  if (reply.has_result()) {
    reply.mutable_result()->set_truncated(true);
    v1::Warning& warning = *reply.mutable_result()->add_warnings();
    warning.set_code("REPLY_TRUNCATED");
    warning.set_text("lists were left out to fit the broker's message size; the manifest has them");
  }
  return reply;
}

}  // namespace

v1::StageReport to_message(const StageTiming& timing) {
  v1::StageReport stage;
  stage.set_stage(std::string(to_string(timing.stage)));
  stage.set_ms(static_cast<std::uint64_t>(timing.duration.count()));
  stage.set_bytes(timing.bytes);
  return stage;
}

v1::ExportResult to_message(const ExportReport& report) {
  v1::ExportResult result;
  result.set_output_uri(report.output_uri);
  result.set_manifest_uri(report.manifest_uri);
  result.set_manifest_sha256(report.manifest_sha256);
  for (const FileReport& file : report.files) {
    v1::ExportedFile& added = *result.add_files();
    added.set_name(file.name);
    added.set_bytes(file.bytes);
    added.set_sha256(file.sha256);
    added.set_kind(file.kind);
  }
  result.set_model_type(report.model_type);
  result.set_task(report.task);
  result.set_opset(report.opset);
  result.set_parameters(report.parameters);
  add_values(report.inputs, *result.mutable_inputs());
  add_values(report.outputs, *result.mutable_outputs());
  result.mutable_verification()->set_level(report.verification.level);
  for (const OutputCheck& check : report.verification.outputs) {
    v1::OutputCheck& added = *result.mutable_verification()->add_outputs();
    added.set_output(check.output);
    added.set_max_abs_diff(check.max_abs_diff);
    added.set_cosine(check.cosine);
    added.set_argmax_agreement(check.argmax_agreement);
  }
  for (const Warning& warning : report.warnings) {
    v1::Warning& added = *result.add_warnings();
    added.set_code(warning.code);
    added.set_text(clean(warning.text));
  }
  result.set_answered_from_manifest(report.answered_from_manifest);
  messages::make_utf8_valid(result);
  return result;
}

v1::Failure to_message(const Error& error) {
  const std::optional<Stage> stage = error.stage();
  v1::Failure failure =
      make_failure(error.code(), error.message(), stage ? to_string(*stage) : std::string_view());
  failure.set_subject(clean(error.subject()));
  for (const FieldProblem& problem : error.problems()) {
    v1::FieldProblem& added = *failure.add_details();
    added.set_field(clean(problem.field));
    added.set_text(clean(problem.text));
  }
  return failure;
}

v1::Failure make_cpu_failure(std::uint64_t limit_seconds, std::string_view stage) {
  return make_failure(ErrorCode::kResourceExhausted,
                      fmt::format("the job used up its {} s of CPU time{}{}; raise "
                                  "--job-cpu-seconds or ask for less in one request",
                                  limit_seconds,
                                  stage.empty() ? "" : " in stage ",
                                  stage),
                      stage);
}

v1::Failure make_failure(ErrorCode code, std::string_view message, std::string_view stage) {
  v1::Failure failure;
  failure.set_code(to_message(code));
  failure.set_message(clean(message));
  failure.set_stage(std::string(stage));
  failure.set_retryable(describe(code).retryable);
  return failure;
}

v1::Failure make_decode_failure(const std::vector<v1::FieldProblem>& problems) {
  std::vector<FieldProblem> details;
  details.reserve(problems.size());
  for (const v1::FieldProblem& problem : problems) {
    details.push_back({problem.field(), problem.text()});
  }
  return to_message(make_problems_error(ErrorCode::kInvalidRequest, std::move(details)));
}

v1::ExportReply make_reply(const ReplyContext& context, v1::ExportResult result) {
  v1::ExportReply reply = make_frame(context);
  *reply.mutable_result() = std::move(result);
  return reply;
}

v1::ExportReply make_reply(const ReplyContext& context, v1::Failure failure) {
  v1::ExportReply reply = make_frame(context);
  *reply.mutable_failure() = std::move(failure);
  return reply;
}

bool trim_reply(v1::ExportReply& reply, messages::Encoding encoding, std::size_t max_bytes) {
  const auto fits = [&](const v1::ExportReply& candidate) {
    return messages::encode_value(candidate, encoding).size() <= max_bytes;
  };
  if (fits(reply)) {
    return true;
  }
  for (const TrimStep& step : reply.has_result() ? result_steps() : failure_steps()) {
    if (!step(reply)) {
      continue;
    }
    v1::ExportReply candidate = marked(reply);
    if (fits(candidate)) {
      reply = std::move(candidate);
      return true;
    }
  }
  return false;
}

}  // namespace onnxferry
