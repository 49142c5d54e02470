#include "pipeline/storage/retry.h"

#include <curl/curl.h>
#include <gtest/gtest.h>

namespace onnxferry {
namespace {

FailureKind of_status(int status, std::string_view code = "") {
  return classify({.transport = 0, .status = status, .s3_code = code});
}

FailureKind of_transport(int code, int status = 0) {
  return classify({.transport = code, .status = status, .s3_code = {}});
}

TEST(Classify, RefusalsAreFinal) {
  for (const int status : {400, 401, 403, 404, 405, 409, 411, 412, 416, 501}) {
    EXPECT_EQ(of_status(status), FailureKind::kPermanent) << status;
  }
  EXPECT_EQ(of_status(403, "AccessDenied"), FailureKind::kPermanent);
  EXPECT_EQ(of_status(403, "SignatureDoesNotMatch"), FailureKind::kPermanent);
}

TEST(Classify, OverloadAndGatewaysAreOutages) {
  for (const int status : {429, 502, 503, 504}) {
    EXPECT_EQ(of_status(status), FailureKind::kUnavailable) << status;
  }
  EXPECT_EQ(of_status(503, "XMinioServerNotInitialized"), FailureKind::kUnavailable);
  EXPECT_EQ(of_status(400, "ThrottlingException"), FailureKind::kUnavailable);
}

TEST(Classify, TheCodeCountsMoreThanTheStatus) {
  EXPECT_EQ(of_status(200, "InternalError"), FailureKind::kTransient);
  EXPECT_EQ(of_status(200, "SlowDown"), FailureKind::kUnavailable);
  EXPECT_EQ(of_status(400, "RequestTimeout"), FailureKind::kTransient);
  EXPECT_EQ(of_status(409, "ConditionalRequestConflict"), FailureKind::kTransient);
  EXPECT_EQ(of_status(403, "RequestTimeTooSkewed"), FailureKind::kClockSkew);
  EXPECT_EQ(of_status(400, "ExpiredToken"), FailureKind::kExpiredCredentials);
  EXPECT_EQ(of_status(301, "PermanentRedirect"), FailureKind::kWrongRegion);
  EXPECT_EQ(of_status(200, "MalformedXML"), FailureKind::kPermanent);
}

TEST(Classify, TransportFailures) {
  for (const int code : {CURLE_COULDNT_RESOLVE_HOST,
                         CURLE_COULDNT_CONNECT,
                         CURLE_OPERATION_TIMEDOUT,
                         CURLE_GOT_NOTHING,
                         CURLE_SEND_ERROR,
                         CURLE_RECV_ERROR,
                         CURLE_SSL_CONNECT_ERROR}) {
    EXPECT_EQ(of_transport(code), FailureKind::kUnavailable) << code;
  }
  EXPECT_EQ(of_transport(CURLE_RECV_ERROR, 206), FailureKind::kTransient);
  EXPECT_EQ(of_transport(CURLE_PARTIAL_FILE, 206), FailureKind::kTransient);
  for (const int code : {CURLE_PEER_FAILED_VERIFICATION,
                         CURLE_URL_MALFORMAT,
                         CURLE_UNSUPPORTED_PROTOCOL,
                         CURLE_WRITE_ERROR}) {
    EXPECT_EQ(of_transport(code), FailureKind::kPermanent) << code;
  }
}

TEST(Backoff, StaysBetweenZeroAndTheDoublingCap) {
  RetryPolicy policy;
  policy.backoff_base = std::chrono::milliseconds(100);
  policy.backoff_cap = std::chrono::milliseconds(1'000);
  std::minstd_rand random(1);
  for (const auto& [failures, ceiling] :
       {std::pair{1, 100}, {2, 200}, {4, 800}, {5, 1'000}, {100, 1'000}}) {
    std::int64_t largest = 0;
    for (int i = 0; i < 2'000; ++i) {
      const auto delay = backoff_delay(policy, failures, random).count();
      ASSERT_GE(delay, 0);
      ASSERT_LE(delay, ceiling);
      largest = std::max<std::int64_t>(largest, delay);
    }
    EXPECT_GT(largest, ceiling * 8 / 10) << "full jitter reaches up to the ceiling";
  }
}

}  // namespace
}  // namespace onnxferry
