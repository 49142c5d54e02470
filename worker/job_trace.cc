#include "worker/job_trace.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "pipeline/stage_name.h"

namespace onnxferry {
namespace {

constexpr std::uint8_t kNewTraceFlags = 0x01;  // nobody has decided: sampled

void add_text(Attributes& attributes, std::string_view name, std::string_view text) {
  if (!text.empty()) {
    attributes.emplace_back(name, std::string(text));
  }
}

}  // namespace

std::optional<JobTrace> JobTrace::begin(const Tracer& tracer,
                                        const messages::RecordPosition& position,
                                        messages::Envelope& envelope) {
  const std::optional<TraceContext> caller =
      envelope.traceparent ? parse_traceparent(*envelope.traceparent) : std::nullopt;
  if (caller && !caller->is_sampled()) {
    return std::nullopt;
  }
  JobTrace trace(tracer);
  trace.context_ = {.trace_id = caller ? caller->trace_id : make_trace_id(tracer.random),
                    .span_id = make_span_id(tracer.random),
                    .flags = caller ? caller->flags : kNewTraceFlags};
  if (caller) {
    trace.parent_ = caller->span_id;
    trace.trace_state_ = envelope.tracestate.value_or("");
  } else {
    envelope.tracestate.reset();
  }
  trace.position_ = position;
  trace.request_id_ = envelope.request_id;
  envelope.traceparent = to_traceparent(trace.context_);
  return trace;
}

TraceContext JobTrace::make_child() const {
  return {.trace_id = context_.trace_id,
          .span_id = make_span_id(tracer_->random),
          .flags = context_.flags};
}

void JobTrace::attempt_started(unsigned attempt) {
  attempt_ = attempt;
  attempt_start_ = clock_.now();
  open_stages_.clear();
}

// Stage names come from another process: only known ones are used.
void JobTrace::stage_started(std::string_view stage) {
  if (find_stage(stage)) {
    open_stages_.insert_or_assign(std::string(stage), clock_.now());
  }
}

void JobTrace::stage_finished(std::string_view stage,
                              std::chrono::milliseconds duration,
                              std::uint64_t bytes) {
  if (!find_stage(stage)) {
    return;
  }
  open_stages_.erase(std::string(stage));
  const SpanClock::Time now = clock_.now();
  const auto within = std::clamp<SpanClock::Time::duration>(
      duration, SpanClock::Time::duration::zero(), now - attempt_start_);
  add_stage(stage, now - within, {}, static_cast<std::int64_t>(bytes));
}

void JobTrace::attempt_ended(std::string_view error) {
  for (const auto& [stage, start] : std::exchange(open_stages_, {})) {
    add_stage(stage, start, error, -1);
  }
}

void JobTrace::add_stage(std::string_view stage,
                         SpanClock::Time start,
                         std::string_view error,
                         std::int64_t bytes) {
  Span span{.context = make_child(),
            .parent = context_.span_id,
            .parent_origin = ParentOrigin::kLocal,
            .trace_state = trace_state_,
            .name = std::string(stage),
            .kind = SpanKind::kInternal,
            .start = start,
            .end = clock_.now(),
            .attributes = {},
            .error = std::string(error)};
  add_text(span.attributes, attribute::kStage, stage);
  span.attributes.emplace_back(attribute::kAttempt, static_cast<std::int64_t>(attempt_));
  add_text(span.attributes, attribute::kRequestId, request_id_);
  if (bytes >= 0) {
    span.attributes.emplace_back(attribute::kBytes, bytes);
  }
  tracer_->sink.add(std::move(span));
}

TraceContext JobTrace::start_send() {
  if (!send_) {
    send_ = Send{.context = make_child(), .topic = {}, .start = clock_.now()};
  }
  return send_->context;
}

void JobTrace::name_send(std::string_view topic) {
  if (send_) {
    send_->topic = topic;
  }
}

void JobTrace::end(const End& end) {
  if (std::exchange(has_ended_, true) || (end.outcome == TraceOutcome::kDropped && attempt_ == 0)) {
    return;
  }
  const SpanClock::Time now = clock_.now();
  if (end.outcome == TraceOutcome::kReplied) {
    add_send(now);
  }
  Span span{.context = context_,
            .parent = parent_,
            .parent_origin = parent_ ? ParentOrigin::kRemote : ParentOrigin::kLocal,
            .trace_state = trace_state_,
            .name = fmt::format("{} {}", attribute::kProcess, position_.topic),
            .kind = SpanKind::kConsumer,
            .start = clock_.start(),
            .end = now,
            .attributes = {},
            .error = end.error};
  constexpr std::array<std::string_view, 4> kOutcomes = {"replied", "moved", "released", "dropped"};
  Attributes& attributes = span.attributes;
  add_text(attributes, attribute::kSystem, attribute::kSystemKafka);
  add_text(attributes, attribute::kOperationName, attribute::kProcess);
  add_text(attributes, attribute::kOperationType, attribute::kProcess);
  add_text(attributes, attribute::kDestination, position_.topic);
  add_text(attributes, attribute::kPartition, std::to_string(position_.partition));
  attributes.emplace_back(attribute::kOffset, position_.offset);
  add_text(attributes, attribute::kGroup, tracer_->group);
  add_text(attributes, attribute::kRequestId, request_id_);
  add_text(attributes, attribute::kOutcome, kOutcomes.at(static_cast<std::size_t>(end.outcome)));
  add_text(attributes, attribute::kTask, end.task);
  add_text(attributes, attribute::kModelType, end.model_type);
  if (attempt_ > 0) {
    attributes.emplace_back(attribute::kAttempt, static_cast<std::int64_t>(attempt_));
  }
  tracer_->sink.add(std::move(span));
}

void JobTrace::add_send(SpanClock::Time now) const {
  if (!send_) {
    return;
  }
  Span span{.context = send_->context,
            .parent = context_.span_id,
            .parent_origin = ParentOrigin::kLocal,
            .trace_state = trace_state_,
            .name = fmt::format("{} {}", attribute::kSend, send_->topic),
            .kind = SpanKind::kProducer,
            .start = send_->start,
            .end = now,
            .attributes = {},
            .error = {}};
  add_text(span.attributes, attribute::kSystem, attribute::kSystemKafka);
  add_text(span.attributes, attribute::kOperationName, attribute::kSend);
  add_text(span.attributes, attribute::kOperationType, attribute::kSend);
  add_text(span.attributes, attribute::kDestination, send_->topic);
  add_text(span.attributes, attribute::kRequestId, request_id_);
  tracer_->sink.add(std::move(span));
}

}  // namespace onnxferry
