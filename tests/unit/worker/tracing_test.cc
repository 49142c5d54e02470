#include "worker/tracing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace onnxferry {
namespace {

using nlohmann::json;

constexpr char kValid[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TraceContext context() {
  return parse_traceparent(kValid).value();
}

TEST(Traceparent, IsReadAndWritten) {
  const TraceContext read = context();
  EXPECT_EQ(read.trace_id[0], 0x4b);
  EXPECT_EQ(read.trace_id[15], 0x36);
  EXPECT_EQ(read.span_id[7], 0xb7);
  EXPECT_TRUE(read.is_sampled());
  EXPECT_EQ(to_traceparent(read), kValid);
}

TEST(Traceparent, KeepsOnlyTheFlagsThatAreDefined) {
  const auto with_flags = [](const std::string& flags) {
    const auto read =
        parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-" + flags);
    return to_traceparent(read.value()).substr(53);
  };
  EXPECT_EQ(with_flags("00"), "00");
  EXPECT_EQ(with_flags("ff"), "03");
  EXPECT_FALSE(parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02")
                   .value()
                   .is_sampled());
}

TEST(Traceparent, RefusesWhatTheSpecificationCallsInvalid) {
  for (const char* text : {
           "",
           "00",
           "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",    // the forbidden version
           "00-00000000000000000000000000000000-00f067aa0ba902b7-01",    // no trace
           "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",    // no span
           "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",    // capitals
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",    // capitals
           "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",    // no number
           "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",     // a digit short
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",  // version 00 has no more
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
           "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
           "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x",  // not a further field
           " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
       }) {
    EXPECT_EQ(parse_traceparent(text), std::nullopt) << text;
  }
}

TEST(Traceparent, OfALaterVersionIsReadAsFarAsItIsKnown) {
  for (const char* text : {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                           "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-else"}) {
    EXPECT_EQ(to_traceparent(parse_traceparent(text).value()), kValid) << text;
  }
}

TEST(Ids, AreNeverAllZero) {
  int calls = 0;
  const RandomBytes zero_at_first = [&calls](std::span<std::uint8_t> bytes) {
    std::ranges::fill(bytes, static_cast<std::uint8_t>(calls++ == 0 ? 0 : 7));
  };
  EXPECT_EQ(make_span_id(zero_at_first)[0], 7);
  EXPECT_EQ(calls, 2);
  EXPECT_NE(make_trace_id(fill_random), make_trace_id(fill_random));
}

// Source of the rules: OTLP specification, "JSON Protobuf Encoding".
TEST(OtlpJson, HasHexIdsTextForLongNumbersAndNumbersForEnumerations) {
  const auto time =
      std::chrono::system_clock::time_point(std::chrono::nanoseconds(1'700'000'000'123'456'789));
  const Span span{.context = context(),
                  .parent = SpanId{1, 2, 3, 4, 5, 6, 7, 0xff},
                  .parent_origin = ParentOrigin::kRemote,
                  .trace_state = "a=b",
                  .name = "process in",
                  .kind = SpanKind::kConsumer,
                  .start = time,
                  .end = time + std::chrono::nanoseconds(1),
                  .attributes = {{"text", "t"}, {"number", std::int64_t{9'007'199'254'740'993}}},
                  .error = "CRASHED"};
  const json expected = json::parse(R"({"resourceSpans": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "me"}}]},
    "schemaUrl": "https://opentelemetry.io/schemas/1.36.0",
    "scopeSpans": [{
      "scope": {"name": "onnxferry"},
      "schemaUrl": "https://opentelemetry.io/schemas/1.36.0",
      "spans": [{
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7",
        "parentSpanId": "01020304050607ff", "traceState": "a=b", "flags": 769,
        "name": "process in", "kind": 5,
        "startTimeUnixNano": "1700000000123456789", "endTimeUnixNano": "1700000000123456790",
        "attributes": [{"key": "text", "value": {"stringValue": "t"}},
                       {"key": "number", "value": {"intValue": "9007199254740993"}},
                       {"key": "error.type", "value": {"stringValue": "CRASHED"}}],
        "status": {"code": 2}}]}]}]})");
  json written = json::parse(to_otlp_json(std::span(&span, 1), {{"service.name", "me"}}));
  written["resourceSpans"][0]["scopeSpans"][0]["scope"].erase("version");
  EXPECT_EQ(written, expected);
}

TEST(OtlpJson, LeavesOutWhatARootWithoutErrorDoesNotHave) {
  Span span{.context = context(), .name = "n"};
  const json written = json::parse(to_otlp_json(std::span(&span, 1), {}));
  const json& made = written["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
  for (const char* name : {"parentSpanId", "traceState", "status"}) {
    EXPECT_FALSE(made.contains(name)) << name;
  }
  EXPECT_EQ(made["flags"], 257);
}

TEST(OtlpJson, ReplacesWhatIsNotUtf8) {
  Span span{.context = context(), .trace_state = "\xff", .name = "a\xc3"};
  EXPECT_TRUE(json::accept(to_otlp_json(std::span(&span, 1), {})));
}

}  // namespace
}  // namespace onnxferry
