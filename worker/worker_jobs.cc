// The attempts of a job: when one starts, what its process says, and what becomes of its end.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "messages/timestamps.h"
#include "pipeline/storage/object_store.h"
#include "worker/failpoint.h"
#include "worker/job_events.h"
#include "worker/job_spec.h"
#include "worker/log.h"
#include "worker/reply.h"
#include "worker/worker.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool has_expired(const Job& job) {
  return job.expires_at && std::chrono::system_clock::now() >= *job.expires_at;
}

v1::Failure expiry_failure(const Job& job) {
  return make_failure(ErrorCode::kDeadlineExceeded,
                      job.process ? "expires_at passed while the job ran; it was stopped"
                                  : "expires_at passed before the job could start",
                      job.process ? job.process->stage() : "");
}

StopReason find_stop_reason(const Job& job, const WorkerConfig& config) {
  if (has_expired(job)) {
    return StopReason::kExpired;
  }
  const std::chrono::seconds limit(config.job_wall_seconds);
  return limit.count() != 0 && std::chrono::steady_clock::now() - job.attempt_started >= limit
             ? StopReason::kOverTime
             : StopReason::kNone;
}

v1::Failure over_time_failure(const WorkerConfig& config, std::string_view stage) {
  return make_failure(ErrorCode::kResourceExhausted,
                      fmt::format("the attempt was not done after {} s and was stopped; raise "
                                  "--job-wall-seconds or ask for less in one request",
                                  config.job_wall_seconds),
                      stage);
}

/// The error code of an attempt's end, as the spans of the stages that it cut off show it.
std::string trace_error(StopReason reason, const JobEnd& end) {
  if (std::holds_alternative<v1::ExportResult>(end)) {
    return {};
  }
  if (const auto* failure = std::get_if<v1::Failure>(&end);
      failure != nullptr && reason == StopReason::kNone) {
    return v1::ErrorCode_Name(failure->code());
  }
  const ErrorCode code = reason == StopReason::kNone       ? ErrorCode::kCrashed
                         : reason == StopReason::kExpired  ? ErrorCode::kDeadlineExceeded
                         : reason == StopReason::kOverTime ? ErrorCode::kResourceExhausted
                                                           : ErrorCode::kCancelled;
  return std::string(describe(code).name);
}

/// Without the query of a presigned URL, whose secrets may have any name.
std::string shown_source(const v1::ExportRequest& request) {
  return ObjectUri::parse(request.minio_tar_uri().empty() ? request.source_uri()
                                                          : request.minio_tar_uri())
      .to_string();
}

}  // namespace

bool Worker::can_start_job() const {
  if (drain_deadline_ || !health_.scratch_ok) {
    return false;
  }
  int slots = 0;
  for (const auto& [key, job] : jobs_) {
    // While the store is away further jobs would only wait beside this one.
    if (job->is_waiting_for_store) {
      return false;
    }
    slots += job->holds_slot() || job->process ? 1 : 0;
  }
  return slots < config_.max_jobs;
}

void Worker::start_waiting_jobs() {
  const Clock::time_point now = Clock::now();
  while (can_start_job()) {
    Job* next = nullptr;
    for (const auto& [key, job] : jobs_) {
      if (job->state == JobState::kWaiting && !job->is_early(now) && !is_leaving(*job) &&
          (next == nullptr || job->sequence < next->sequence)) {
        next = job.get();
      }
    }
    if (next == nullptr || !may_start_uncancelled()) {
      return;
    }
    begin_attempt(*next);
  }
}

void Worker::begin_attempt(Job& job) {
  const Partition* partition = find_partition(job);
  EXPORT_CHECK(partition != nullptr, "a waiting job without its partition");
  const unsigned attempts =
      std::max(job.attempt, job.attempts_before + partition->tracker.attempts(job.offset()));
  if (has_expired(job)) {
    end_job(job, expiry_failure(job), DeadLetter::kNo);
  } else if (attempts >= static_cast<unsigned>(config_.max_attempts)) {
    // The starts were recorded and no end was: each took its worker along, or was given up.
    job.attempt = attempts;
    end_job(job,
            make_failure(ErrorCode::kCrashed,
                         fmt::format("no end was recorded for {} attempts; the job or its worker "
                                     "died each time; see the workers' logs for this request id",
                                     attempts)),
            DeadLetter::kYes);
  } else {
    job.attempt = attempts + 1;
    job.state = JobState::kRecording;
    if (job.attempt > 1) {
      metrics_.job_retried();
    } else if (job.record.timestamp_ms >= 0) {
      const auto sent =
          std::chrono::system_clock::time_point(milliseconds(job.record.timestamp_ms));
      metrics_.queue_waited(std::max(
          0.0, std::chrono::duration<double>(std::chrono::system_clock::now() - sent).count()));
    }
    return;
  }
  log_end(job);
}

v1::JobSpec Worker::make_spec(const Job& job) const {
  v1::JobSpec spec;
  *spec.mutable_request() = job.decoded.request;
  spec.mutable_request()->set_request_id(job.request_id());
  spec.set_export_timestamp(job.export_timestamp);
  *spec.mutable_stores() = to_message(config_.stores);
  *spec.mutable_limits() = to_message(config_.limits);
  spec.set_onnxruntime_library(config_.onnxruntime_library);
  spec.set_scratch(job.scratch.string());
  spec.set_parent_pid(::getpid());
  spec.set_weights_cache(weights_cache_directory(config_));
  spec.set_weights_cache_bytes(config_.weights_cache_bytes);
  return spec;
}

void Worker::spawn(Job& job) {
  failpoint("after-attempt");
  job.state = JobState::kRunning;
  job.attempt_started = Clock::now();
  job.started_at = std::chrono::system_clock::now();
  job.stages.clear();
  job.progress.reset();
  if (job.trace) {
    job.trace->attempt_started(job.attempt);
  }
  job.stop_reason = StopReason::kNone;
  try {
    job.scratch = scratch_.make_job_directory();
    const ChildProcess::Options options{.command = config_.job_command,
                                        .input = frame(make_spec(job)),
                                        .memory_bytes = config_.job_memory_bytes,
                                        .cpu_seconds = config_.job_cpu_seconds};
    job.process = std::make_unique<JobProcess>(
        loop_,
        options,
        JobProcess::Callbacks{
            .on_event = [this, &job](const v1::JobEvent& event) { on_job_event(job, event); },
            .on_log_line =
                [id = job.request_id()](std::string_view line) {
                  log(LogLevel::kWarn, line, {{"request_id", id}, {"source", "job"}});
                },
            .on_end = [this, &job](JobEnd end) { on_job_end(job, std::move(end)); }},
        cgroups_ ? cgroups_->make() : nullptr);
  } catch (const Error& error) {
    on_job_end(job, to_message(error));
    return;
  }
  log(LogLevel::kInfo,
      "job started",
      {{"request_id", job.request_id()},
       {"attempt", std::to_string(job.attempt)},
       {"pid", std::to_string(job.process->pid())},
       {"source", shown_source(job.decoded.request)}});
}

void Worker::on_job_event(Job& job, const v1::JobEvent& event) {
  job.progress.note(event);
  if (job.trace && event.has_stage_started()) {
    job.trace->stage_started(event.stage_started().stage());
  }
  if (event.has_stage_finished()) {
    const v1::StageReport& stage = event.stage_finished();
    job.stages.push_back(stage);
    if (job.trace) {
      job.trace->stage_finished(stage.stage(), milliseconds(stage.ms()), stage.bytes());
    }
    metrics_.stage_ended(stage.stage(), static_cast<double>(stage.ms()) / 1000, stage.bytes());
    log(LogLevel::kInfo,
        "stage done",
        {{"request_id", job.request_id()},
         {"stage", stage.stage()},
         {"bytes", std::to_string(stage.bytes())},
         {"ms", std::to_string(stage.ms())}});
  } else if (event.has_waiting() && event.waiting().waiting() != job.is_waiting_for_store) {
    job.is_waiting_for_store = event.waiting().waiting();
    log(LogLevel::kWarn,
        job.is_waiting_for_store
            ? fmt::format("the store is unavailable, waiting: {}", event.waiting().reason())
            : "the store is back",
        {{"request_id", job.request_id()}, {"stage", event.waiting().stage()}});
  }
}

void Worker::on_job_end(Job& job, JobEnd end) {
  v1::Failure expired = expiry_failure(job);
  const std::string stage = job.process ? job.process->stage() : "";
  if (job.trace) {
    job.trace->attempt_ended(trace_error(job.stop_reason, end));
  }
  job.process.reset();
  if (!job.scratch.empty()) {
    scratch_.remove_job_directory(std::exchange(job.scratch, {}));
  }
  job.is_waiting_for_store = false;
  metrics_.job_ended(seconds_since(job.attempt_started));
  if (std::holds_alternative<JobCrash>(end) && job.stop_reason == StopReason::kNone) {
    metrics_.job_crashed();
  }
  // A result counts whatever we asked for meanwhile, until expires_at.
  if (auto* result = std::get_if<v1::ExportResult>(&end)) {
    end_job(job, std::move(*result));
    log_end(job);
    expire_result(job);
  } else if (!job.epoch) {
    end_orphan(job);
  } else if (job.stop_reason == StopReason::kExpired) {
    end_job(job, std::move(expired), DeadLetter::kNo);
    log_end(job);
  } else if (job.stop_reason == StopReason::kOverTime) {
    retry_or_fail(job, over_time_failure(config_, stage), "attempt failed");
  } else if (job.stop_reason == StopReason::kCancelled) {
    end_cancelled(job, stage);
  } else if (job.stop_reason == StopReason::kOrphaned) {
    // Stopped as an orphan, adopted again too late: once more, here or elsewhere.
    job.state = is_leaving(job) ? JobState::kReleasing : JobState::kWaiting;
  } else if (job.stop_reason == StopReason::kDrained) {
    job.state = JobState::kReleasing;
  } else if (auto* failure = std::get_if<v1::Failure>(&end)) {
    const auto code = find_error_code(v1::ErrorCode_Name(failure->code()));
    if (code && describe(*code).retryable) {
      retry_or_fail(job, std::move(*failure), "attempt failed");
      return;
    }
    const bool is_bug = !code || *code == ErrorCode::kInternal;
    end_job(job, std::move(*failure), is_bug ? DeadLetter::kYes : DeadLetter::kNo);
    log_end(job);
  } else {
    const JobCrash& crash = std::get<JobCrash>(end);
    retry_or_fail(job,
                  make_failure(ErrorCode::kCrashed,
                               fmt::format("the job process {}; attempt {} of {}",
                                           crash.text,
                                           job.attempt,
                                           config_.max_attempts),
                               crash.stage),
                  "job process crashed");
  }
}

// What the caller gave up on is no success any more, although its files stand.
void Worker::expire_result(Job& job) {
  if (!job.reply || !job.reply->has_result() || !has_expired(job)) {
    return;
  }
  end_job(job,
          make_failure(ErrorCode::kDeadlineExceeded,
                       fmt::format("expires_at passed before the result could be sent; the export "
                                   "itself is complete at {}; the same request with a later "
                                   "expires_at is answered from there",
                                   job.reply->result().output_uri())),
          DeadLetter::kNo);
  log_end(job);
}

// Its record belongs to another worker now, which does the job anew; there is nothing to answer.
void Worker::end_orphan(Job& job) {
  metrics_.orphan(OrphanFate::kKilled);
  log(LogLevel::kInfo, "job of a revoked partition ended", {{"request_id", job.request_id()}});
  erase_job(job);
}

void Worker::tick_jobs() {
  const Clock::time_point now = Clock::now();
  const milliseconds grace(config_.kill_grace_ms);
  std::vector<JobKey> expired_orphans;
  for (auto& [key, job] : jobs_) {
    if (job->process) {
      job->process->tick();
      report_progress(*job);
      if (job->stop_reason == StopReason::kNone) {
        job->stop_reason = find_stop_reason(*job, config_);
        if (job->stop_reason != StopReason::kNone) {
          job->process->stop(grace);
        }
      }
    }
    if (!job->epoch && now > job->orphan_deadline) {
      if (!job->process) {
        expired_orphans.push_back(key);
      } else if (job->stop_reason != StopReason::kOrphaned) {
        job->stop_reason = StopReason::kOrphaned;
        job->process->stop(grace);
      }
    }
    if (job->state == JobState::kBackoff && now >= job->backoff_until && job->epoch) {
      begin_attempt(*job);
    }
  }
  for (const JobKey& key : expired_orphans) {
    if (!jobs_.at(key)->in_transaction) {
      metrics_.orphan(OrphanFate::kKilled);
      erase_job(*jobs_.at(key));
    }
  }
}

void Worker::report_progress(Job& job) {
  v1::ProgressEvent event;
  if (!progress_ || !job.epoch || !job.progress.take(Clock::now(), event)) {
    return;
  }
  event.set_request_id(job.request_id());
  event.set_attempt(job.attempt);
  *event.mutable_worker() = worker_info(job.decoded.request);
  *event.mutable_time() = messages::to_timestamp(std::chrono::system_clock::now());
  progress_->send(std::move(event), job.decoded.envelope);
}

void Worker::erase_job(Job& job) {
  if (job.trace) {
    job.trace->end({.outcome = TraceOutcome::kDropped});
  }
  jobs_.erase(job.key());
}

void Worker::log_end(const Job& job) const {
  EXPORT_CHECK(job.reply.has_value(), "an ended job without a reply");
  const bool failed = job.reply->has_failure();
  const v1::Failure& failure = job.reply->failure();
  log(failed ? LogLevel::kError : LogLevel::kInfo,
      failed ? failure.message() : "job done",
      {{"request_id", job.request_id()},
       {"result", failed ? v1::ErrorCode_Name(failure.code()) : "completed"},
       {"stage", failed ? failure.stage() : "upload"},
       {"attempt", std::to_string(job.attempt)}});
}

}  // namespace onnxferry
