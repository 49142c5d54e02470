#include "messages/envelope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/messages/fill.h"

namespace onnxferry::messages {
namespace {

using testing::HasSubstr;

std::string bytes(std::initializer_list<int> values) {
  std::string out;
  for (const int value : values) {
    out += static_cast<char>(value);
  }
  return out;
}

TEST(Envelope, ReadsSpringsReplyHeaders) {
  const auto reading = read_envelope("{}",
                                     {{"kafka_correlationId", bytes({0, 255, 10})},
                                      {"kafka_replyTopic", "team.replies"},
                                      {"kafka_replyPartition", bytes({0, 0, 1, 2})}});
  EXPECT_EQ(to_text(reading.problems), "");
  EXPECT_EQ(reading.envelope.correlation_id, bytes({0, 255, 10}));
  EXPECT_EQ(reading.envelope.reply_topic, "team.replies");
  EXPECT_EQ(reading.envelope.reply_partition, 258);
}

TEST(Envelope, RefusesReplyPartitionsThatAreNotBigEndianInts) {
  for (const std::string& value :
       {std::string("3"), std::string(), bytes({255, 255, 255, 255}), bytes({0, 0, 0, 0, 1})}) {
    const auto reading = read_envelope("{}", {{"kafka_replyPartition", value}});
    EXPECT_THAT(to_text(reading.problems), HasSubstr("kafka_replyPartition: found")) << value;
    EXPECT_EQ(reading.envelope.reply_partition, std::nullopt);
  }
}

TEST(Envelope, RefusesReplyTopicsThatAreNoNames) {
  for (const std::string& name : {std::string("a b"),
                                  std::string(".."),
                                  std::string(),
                                  std::string(250, 'a'),
                                  std::string("a/b"),
                                  bytes({'a', 0})}) {
    const auto reading = read_envelope("{}", {{"kafka_replyTopic", name}});
    EXPECT_THAT(to_text(reading.problems), HasSubstr("is not a topic name")) << name;
    EXPECT_EQ(reading.envelope.reply_topic, std::nullopt);
  }
}

TEST(Envelope, ChecksCloudEventsAttributesWhenPresent) {
  const auto good = read_envelope("{}",
                                  {{"ce_specversion", "1.0"},
                                   {"ce_type", "dev.onnxferry.export.requested.v1"},
                                   {"ce_source", "/shop"},
                                   {"ce_id", "id-1"}});
  EXPECT_EQ(to_text(good.problems), "");
  EXPECT_EQ(good.envelope.request_id, "id-1");
  const auto bad = read_envelope(
      "{}",
      {{"ce_specversion", "0.3"}, {"ce_type", "other"}, {"ce_source", ""}, {"ce_id", "a\nb"}});
  EXPECT_EQ(to_text(bad.problems),
            "ce_specversion: found \"0.3\", expected 1.0\n"
            "ce_type: found \"other\", expected dev.onnxferry.export.requested.v1\n"
            "ce_source: empty; expected a URI reference\n"
            "ce_id: found \"a\\x0ab\", expected 1 to 256 printable bytes\n");
}

TEST(Envelope, ReadsTraceContextFromEitherHeader) {
  EXPECT_EQ(read_envelope("", {{"ce_traceparent", "00-a"}}).envelope.traceparent, "00-a");
  EXPECT_EQ(
      read_envelope("", {{"ce_traceparent", "00-a"}, {"traceparent", "00-b"}}).envelope.traceparent,
      "00-b");
  EXPECT_EQ(read_envelope("", {{"tracestate", std::string(513, 'x')}}).envelope.tracestate,
            std::nullopt);
}

TEST(Headers, LastOneWinsAndNullIsAbsent) {
  const Headers headers = {{"a", "1"}, {"a", "2"}, {"b", std::nullopt}, {"c", ""}};
  ASSERT_NE(find_header(headers, "a"), nullptr);
  EXPECT_EQ(*find_header(headers, "a"), "2");
  EXPECT_EQ(find_header(headers, "b"), nullptr);
  EXPECT_NE(find_header(headers, "c"), nullptr);
  EXPECT_EQ(find_header(headers, "A"), nullptr);
}

}  // namespace
}  // namespace onnxferry::messages
