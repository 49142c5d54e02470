#include "worker/job_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace onnxferry {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using testing::ElementsAre;

constexpr char kSampled[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

struct Collected : SpanSink {
  void add(Span span) override { spans.push_back(std::move(span)); }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> list;
    list.reserve(spans.size());
    for (const Span& span : spans) {
      list.push_back(span.name + (span.error.empty() ? "" : " " + span.error));
    }
    return list;
  }
  std::vector<Span> spans;
};

class JobTraceTest : public testing::Test {
 protected:
  std::optional<JobTrace> begin(std::optional<std::string> traceparent) {
    envelope_.request_id = "r";
    envelope_.traceparent = std::move(traceparent);
    envelope_.tracestate = "a=b";
    return JobTrace::begin(tracer_, {"in", 3, 42}, envelope_);
  }

  // NOLINTNEXTLINE(bugprone-unchecked-optional-access): without a trace the test must end
  JobTrace begin_sampled() { return begin(kSampled).value(); }

  Collected collected_;
  std::uint8_t next_ = 1;
  Tracer tracer_{.sink = collected_, .group = "g", .random = [this](std::span<std::uint8_t> bytes) {
                   std::ranges::fill(bytes, next_++);
                 }};
  messages::Envelope envelope_;
};

TEST_F(JobTraceTest, ContinuesTheCallersTrace) {
  JobTrace trace = begin_sampled();
  EXPECT_EQ(envelope_.traceparent, "00-4bf92f3577b34da6a3ce929d0e0e4736-0101010101010101-01");
  EXPECT_EQ(envelope_.tracestate, "a=b");
  trace.end({.outcome = TraceOutcome::kReplied});
  ASSERT_EQ(collected_.names(), std::vector<std::string>{"process in"});
  const Span& span = collected_.spans[0];
  EXPECT_EQ(span.parent, (SpanId{0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7}));
  EXPECT_EQ(span.parent_origin, ParentOrigin::kRemote);
  EXPECT_EQ(to_traceparent(span.context), envelope_.traceparent);
}

TEST_F(JobTraceTest, BeginsATraceWhereTheRequestNamesNone) {
  for (const std::optional<std::string>& none : {std::optional<std::string>(), {"00-nonsense"}}) {
    next_ = 1;
    ASSERT_TRUE(begin(none).has_value());
    EXPECT_EQ(envelope_.traceparent, "00-01010101010101010101010101010101-0202020202020202-01");
    EXPECT_EQ(envelope_.tracestate, std::nullopt) << "it belongs to another trace";
  }
}

TEST_F(JobTraceTest, LeavesAnUnsampledTraceAlone) {
  const std::string unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
  EXPECT_EQ(begin(unsampled), std::nullopt);
  EXPECT_EQ(envelope_.traceparent, unsampled);
  EXPECT_EQ(envelope_.tracestate, "a=b");
}

TEST_F(JobTraceTest, HasASpanForEachStageOfEachAttempt) {
  JobTrace trace = begin_sampled();
  trace.attempt_started(1);
  trace.stage_started("download");
  trace.stage_finished("download", milliseconds(0), 7);
  trace.stage_started("extract");
  trace.attempt_ended("UNAVAILABLE");
  trace.attempt_started(2);
  trace.stage_started("download");
  trace.stage_finished("download", hours(1), 7);
  trace.attempt_ended("");
  const TraceContext send = trace.start_send();
  EXPECT_EQ(trace.start_send(), send) << "after an aborted transaction the same";
  trace.name_send("out");
  trace.end({.outcome = TraceOutcome::kReplied});
  trace.end({.outcome = TraceOutcome::kDropped});
  EXPECT_THAT(collected_.names(),
              ElementsAre("download", "extract UNAVAILABLE", "download", "send out", "process in"));
  const Span& process = collected_.spans[4];
  EXPECT_EQ(collected_.spans[3].context, send);
  for (std::size_t i = 0; i < 4; ++i) {
    const Span& span = collected_.spans[i];
    EXPECT_EQ(span.parent, process.context.span_id) << span.name;
    EXPECT_EQ(span.context.trace_id, process.context.trace_id) << span.name;
    EXPECT_LE(process.start, span.start) << span.name << ": whatever the job said";
    EXPECT_LE(span.start, span.end) << span.name;
    EXPECT_LE(span.end, process.end) << span.name;
  }
}

TEST_F(JobTraceTest, TakesStageNamesOnlyFromTheList) {
  JobTrace trace = begin_sampled();
  trace.attempt_started(1);
  trace.stage_started("lunch");
  trace.stage_finished("lunch", milliseconds(1), 1);
  trace.attempt_ended("CRASHED");
  EXPECT_THAT(collected_.names(), ElementsAre());
}

TEST_F(JobTraceTest, OfADroppedDeliveryTellsOnlyWhatWasTried) {
  begin_sampled().end({.outcome = TraceOutcome::kDropped});
  EXPECT_THAT(collected_.names(), ElementsAre()) << "it will be delivered again";
  JobTrace trace = begin_sampled();
  trace.attempt_started(1);
  trace.end({.outcome = TraceOutcome::kDropped});
  EXPECT_THAT(collected_.names(), ElementsAre("process in"));
}

}  // namespace
}  // namespace onnxferry
