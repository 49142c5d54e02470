#include "worker/otlp_exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace onnxferry {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

struct Read {
  OtlpSettings settings;
  std::vector<FieldProblem> problems;
};

Read read(const std::vector<std::string>& environment) {
  Read made;
  read_otlp_environment(environment, made.settings, made.problems);
  return made;
}

TEST(OtlpSettings, TracingIsOffByDefault) {
  EXPECT_EQ(traces_url({}), "");
  EXPECT_EQ(traces_url(read({"OTEL_SERVICE_NAME=me", "PATH=/bin"}).settings), "");
}

TEST(OtlpSettings, TheFlagBeatsTheTracesVariableAndThatTheGeneralOne) {
  const std::string general = "OTEL_EXPORTER_OTLP_ENDPOINT=http://a:4318/";
  const std::string traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://b/as/it/is";
  EXPECT_EQ(traces_url(read({general}).settings), "http://a:4318/v1/traces");
  Read both = read({general, traces});
  EXPECT_EQ(traces_url(both.settings), "http://b/as/it/is");
  both.settings.endpoint = "https://c/prefix";
  EXPECT_EQ(traces_url(both.settings), "https://c/prefix/v1/traces");
  both.settings.endpoint = "http://d/v1/traces";
  EXPECT_EQ(traces_url(both.settings), "http://d/v1/traces");
  EXPECT_EQ(traces_url(read({general, "OTEL_SDK_DISABLED=true"}).settings), "");
  EXPECT_EQ(traces_url(read({general, "OTEL_TRACES_EXPORTER=none"}).settings), "");
  EXPECT_EQ(traces_url(read({"OTEL_EXPORTER_OTLP_ENDPOINT="}).settings), "") << "empty is absent";
}

TEST(OtlpSettings, ReadsListsWithEscapes) {
  const Read made = read({"OTEL_RESOURCE_ATTRIBUTES=a=1, b.c = x%2Cy%3D ,,",
                          "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20abc=="});
  EXPECT_THAT(made.problems, IsEmpty());
  EXPECT_THAT(made.settings.resource, ElementsAre(Pair("a", "1"), Pair("b.c", "x,y=")));
  EXPECT_THAT(made.settings.headers, ElementsAre(Pair("authorization", "Bearer abc==")));
}

TEST(OtlpSettings, NeverShowsAHeaderItCannotRead) {
  const Read made = read({"OTEL_EXPORTER_OTLP_HEADERS=geheim"});
  ASSERT_EQ(made.problems.size(), 1U);
  EXPECT_EQ(made.problems[0].field, "OTEL_EXPORTER_OTLP_HEADERS");
  EXPECT_THAT(made.problems[0].text, testing::Not(HasSubstr("geheim")));
  const Read split = read({"OTEL_EXPORTER_OTLP_HEADERS=a=b%0D%0Ac: geheim"});
  EXPECT_EQ(check_otlp_settings(split.settings).size(), 1U) << "no header may end another";
}

TEST(OtlpSettings, RefusesGrpc) {
  const Read made =
      read({"OTEL_EXPORTER_OTLP_ENDPOINT=http://a:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"});
  ASSERT_EQ(made.problems.size(), 1U);
  EXPECT_THAT(made.problems[0].text, HasSubstr("http/json"));
}

TEST(OtlpSettings, RefusesWhatIsNoPlainUrl) {
  for (const char* url : {"collector:4318",
                          "grpc://collector:4317",
                          "http://",
                          "http://:4318",
                          "http://host:0",
                          "http://host:65536",
                          "http://host:port",
                          "http://user:geheim@host",
                          "http://host/?token=geheim",
                          "http://ho st"}) {
    const auto problems = check_otlp_settings({.endpoint = url});
    ASSERT_EQ(problems.size(), 1U) << url;
    EXPECT_EQ(problems[0].field, "otlp-endpoint");
    EXPECT_THAT(problems[0].text, testing::Not(HasSubstr("geheim")));
  }
  for (const char* url :
       {"http://host", "https://host:4318/", "http://[::1]:4318", "http://1.2.3.4/p"}) {
    EXPECT_THAT(check_otlp_settings({.endpoint = url}), IsEmpty()) << url;
  }
}

TEST(OtlpSettings, SplitsItsUrl) {
  EXPECT_EQ(split_url("http://h:1/v1/traces").origin, "http://h:1");
  EXPECT_EQ(split_url("http://h:1/v1/traces").path, "/v1/traces");
  EXPECT_EQ(split_url("http://h").path, "/");
}

TEST(OtlpAnswer, OnlyPassingFailuresAreWorthAnotherTry) {
  EXPECT_EQ(judge_status(200), ExportOutcome::kSent);
  EXPECT_EQ(judge_status(202), ExportOutcome::kSent);
  for (const int status : {429, 502, 503, 504}) {
    EXPECT_EQ(judge_status(status), ExportOutcome::kRetryable) << status;
  }
  for (const int status : {301, 400, 401, 404, 500}) {
    EXPECT_EQ(judge_status(status), ExportOutcome::kRefused) << status;
  }
}

TEST(OtlpAnswer, CountsWhatACollectorRejects) {
  EXPECT_EQ(rejected_spans(R"({"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}})"), 3U);
  EXPECT_EQ(rejected_spans(R"({"partialSuccess":{"rejectedSpans":2}})"), 2U);
  for (const char* body : {"",
                           "{}",
                           "[]",
                           "no json",
                           R"({"partialSuccess":{}})",
                           R"({"partialSuccess":{"rejectedSpans":-1}})",
                           R"({"partialSuccess":{"rejectedSpans":"many"}})"}) {
    EXPECT_EQ(rejected_spans(body), 0U) << body;
  }
}

std::size_t count(const Metrics& metrics, const std::string& fate) {
  const std::string name = "onnxferry_spans_total{fate=\"" + fate + "\"} ";
  const std::string text = metrics.text();
  return std::stoul(text.substr(text.find(name) + name.size()));
}

TEST(OtlpExporter, KeepsItsQueueWithinBoundsAndCountsEverySpan) {
  constexpr std::size_t kSpans = 20'000;
  constexpr std::size_t kQueue = 2'048;
  Metrics metrics;
  {
    OtlpExporter exporter({.endpoint = "http://127.0.0.1:1"}, metrics);  // nobody listens there
    for (std::size_t i = 0; i < kSpans; ++i) {
      exporter.add({.name = "span"});
    }
    EXPECT_GE(count(metrics, "dropped"), kSpans - 2 * kQueue);
  }
  EXPECT_EQ(count(metrics, "sent"), 0U);
  EXPECT_GT(count(metrics, "failed"), 0U);
  EXPECT_EQ(count(metrics, "dropped") + count(metrics, "failed"), kSpans);
}

}  // namespace
}  // namespace onnxferry
