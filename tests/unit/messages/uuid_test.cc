#include "messages/uuid.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "messages/timestamps.h"

namespace onnxferry::messages {
namespace {

// RFC 9562 appendix C / Python's uuid.NAMESPACE_DNS
constexpr UuidBytes kDns = {
    0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8};

TEST(Uuid5, MatchesPublishedVectors) {
  EXPECT_EQ(uuid5(kDns, "www.example.com"),
            "2ed6657d-e927-568b-95e1-2665a8aea6a2");  // RFC 9562 A.4
  EXPECT_EQ(uuid5(kDns, "python.org"),
            "886313e1-3b8a-5372-9b90-0c9aee199e5d");  // Python's documentation
  EXPECT_EQ(uuid5(kDns, "onnxferry.dev"), "b379bae4-09e2-508b-b469-fe34356cdd33");
}

TEST(Uuid5, NamespaceIsTheDocumentedOne) {
  std::string text;
  for (const int byte : kUuidNamespace) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += kDigits[static_cast<std::size_t>(byte) / 16];
    text += kDigits[static_cast<std::size_t>(byte) % 16];
  }
  EXPECT_EQ(text, "b379bae409e2508bb469fe34356cdd33");
}

TEST(EventId, DependsOnTypeAndSequence) {
  const std::set<std::string> ids = {event_id("r", kTypeCompleted),
                                     event_id("r", kTypeFailed),
                                     event_id("s", kTypeFailed),
                                     event_id("r", kTypeProgress, 1),
                                     event_id("r", kTypeProgress, 2)};
  EXPECT_EQ(ids.size(), 5U);
  EXPECT_EQ(event_id("r", kTypeFailed), event_id("r", kTypeFailed));
}

TEST(Uuid4, IsRandomVersionFour) {
  EXPECT_NE(uuid4(), uuid4());
  EXPECT_THAT(
      uuid4(),
      testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
}

TEST(Timestamps, RoundTripAndPrintRfc3339) {
  const auto time =
      std::chrono::system_clock::time_point(std::chrono::milliseconds(1'764'547'200'250));
  EXPECT_EQ(to_rfc3339(time), "2025-12-01T00:00:00.250Z");
  EXPECT_EQ(to_time_point(to_timestamp(time)), time);
  const auto before_1970 = std::chrono::system_clock::time_point(std::chrono::milliseconds(-1));
  EXPECT_EQ(to_rfc3339(before_1970), "1969-12-31T23:59:59.999Z");
}

TEST(Timestamps, ClampToTheClock) {
  google::protobuf::Timestamp time;
  ASSERT_TRUE(parse_rfc3339("9999-12-31T23:59:59Z", time));
  EXPECT_EQ(to_time_point(time), std::chrono::system_clock::time_point::max());
  ASSERT_TRUE(parse_rfc3339("0001-01-01T00:00:00Z", time));
  EXPECT_EQ(to_time_point(time), std::chrono::system_clock::time_point::min());
  ASSERT_TRUE(parse_rfc3339("2026-12-01T02:00:00+02:00", time));
  EXPECT_EQ(to_rfc3339(time), "2026-12-01T00:00:00Z");
  for (const char* text : {"",
                           "2026-12-01",
                           "2026-12-01 00:00:00Z",
                           "2026-13-01T00:00:00Z",
                           "2026-12-01T00:00:00",
                           "x"}) {
    EXPECT_FALSE(parse_rfc3339(text, time)) << text;
  }
  time.set_seconds(INT64_MAX);
  EXPECT_FALSE(is_in_range(time));
}

}  // namespace
}  // namespace onnxferry::messages
