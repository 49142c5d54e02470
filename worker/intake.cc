#include "worker/intake.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "messages/text.h"
#include "messages/timestamps.h"
#include "pipeline/version.h"
#include "worker/log.h"
#include "worker/reply.h"
#include "worker/request_options.h"
#include "worker/retry.h"

namespace onnxferry {
namespace {

using std::chrono::system_clock;

ReplyContext context_of(const Job& job) {
  ReplyContext context;
  context.request = job.decoded.request;
  context.request.set_request_id(job.request_id());
  context.attempt = std::max(1U, job.attempt);
  context.worker = worker_info(job.decoded.request);
  context.finished_at = system_clock::now();
  context.started_at = job.started_at == Job::SystemTime() ? context.finished_at : job.started_at;
  context.stages = job.stages;
  return context;
}

std::optional<std::string_view> as_view(const std::optional<std::string>& bytes) {
  return bytes ? std::optional<std::string_view>(*bytes) : std::nullopt;
}

}  // namespace

v1::WorkerInfo worker_info(const v1::ExportRequest& request) {
  v1::WorkerInfo info;
  info.set_version(std::string(version()));
  info.set_host(host_name());
  info.set_device(request.device().empty() ? "cpu" : request.device());
  return info;
}

void end_job(Job& job, v1::Failure failure, DeadLetter dead_letter) {
  if (dead_letter == DeadLetter::kYes) {
    job.dead_letter_code = v1::ErrorCode_Name(failure.code());
  }
  job.reply = make_reply(context_of(job), std::move(failure));
  job.state = JobState::kEnded;
}

void end_job(Job& job, v1::ExportResult result) {
  job.reply = make_reply(context_of(job), std::move(result));
  job.state = JobState::kEnded;
}

Intake::Intake(const WorkerConfig& config)
    : config_(config), allowed_reply_topics_(config.reply_topic_allow) {}

bool Intake::may_reply_to(const std::string& topic) const {
  if (topic == config_.reply_topic) {
    return true;
  }
  // Whatever the expression says: a reply there would be read as a request.
  const std::vector<std::string> consumed = consumed_topics(config_);
  return std::ranges::find(consumed, topic) == consumed.end() &&
         std::regex_match(topic, allowed_reply_topics_);
}

void Intake::take_ticket_off(Job& job, system_clock::time_point now) const {
  std::string problem;
  const std::optional<RetryTicket> ticket = take_ticket(job.record, config_, problem);
  if (!ticket) {
    log(LogLevel::kWarn,
        fmt::format("a record of the retry topic was not written by a worker of this fleet; it is "
                    "taken as a new request: {}",
                    problem),
        {{"topic", job.record.position.topic},
         {"partition", std::to_string(job.record.position.partition)},
         {"offset", std::to_string(job.record.position.offset)}});
    return;
  }
  job.origin = ticket->origin;
  job.attempts_before = ticket->attempts;
  job.attempt = ticket->attempts;
  job.due = std::chrono::steady_clock::now() + time_until_due(*ticket, config_, now);
}

std::unique_ptr<Job> Intake::admit(Record record, system_clock::time_point now) const {
  auto job = std::make_unique<Job>();
  job->record = std::move(record);
  job->origin = job->record.position;
  if (is_retry_topic(config_, job->record.position.topic)) {
    take_ticket_off(*job, now);
  }
  job->decoded =
      messages::decode_request(as_view(job->record.value), job->record.headers, job->origin);
  messages::Envelope& envelope = job->decoded.envelope;
  const bool has_time = job->record.timestamp_ms >= 0;
  job->export_timestamp = messages::to_rfc3339(
      has_time ? system_clock::time_point(std::chrono::milliseconds(job->record.timestamp_ms))
               : now);

  if (envelope.reply_topic && !may_reply_to(*envelope.reply_topic)) {
    const std::string refused = std::exchange(envelope.reply_topic, std::nullopt).value();
    envelope.reply_partition.reset();
    end_job(*job,
            make_failure(ErrorCode::kInvalidRequest,
                         fmt::format("kafka_replyTopic {} is not a topic that requests may name; "
                                     "leave it out, or have the operator allow it",
                                     messages::quote(refused))),
            DeadLetter::kNo);
    return job;
  }
  if (!job->decoded.problems.empty()) {
    end_job(*job, make_decode_failure(job->decoded.problems), DeadLetter::kYes);
    return job;
  }
  try {
    (void)to_export_options(job->decoded.request,
                            {.export_timestamp = job->export_timestamp, .now = now});
    job->expires_at = find_expiry(job->decoded.request);
  } catch (const Error& error) {
    end_job(*job, to_message(error), DeadLetter::kNo);
  }
  return job;
}

}  // namespace onnxferry
