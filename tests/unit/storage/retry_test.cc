#include "pipeline/storage/retry.h"

#include <atomic>
#include <thread>

#include <curl/curl.h>
#include <gtest/gtest.h>

#include "pipeline/error.h"
#include "tests/unit/storage/scripted_server.h"

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

/// GETs of one URL, all alike.
class PlainGet : public Exchange {
 public:
  explicit PlainGet(std::string url) : url_(std::move(url)) {}
  HttpRequest prepare(int /*failures*/) override { return {.method = "GET", .url = url_}; }
  Verdict judge(HttpReply& reply) override {
    return reply.is_success() ? Verdict::kDone : Verdict::kFailed;
  }
  [[nodiscard]] FailureFacts facts(const HttpReply& reply) const override {
    return {.transport = reply.transport, .status = reply.status, .s3_code = {}};
  }
  bool repair(FailureKind /*kind*/, const HttpReply& /*reply*/) override { return false; }
  [[nodiscard]] Error failure(const HttpReply& /*reply*/, std::string_view why) const override {
    return {ErrorCode::kUnavailable, std::string(why)};
  }
  [[nodiscard]] std::string describe(const HttpReply& /*reply*/) const override { return "503"; }

 private:
  std::string url_;
};

class ManyGets : public ExchangeSource {
 public:
  ManyGets(std::string url, int count) : url_(std::move(url)), left_(count) {}
  std::unique_ptr<Exchange> next() override {
    return left_-- > 0 ? std::make_unique<PlainGet>(url_) : nullptr;
  }
  [[nodiscard]] bool is_exhausted() const override { return left_ <= 0; }

 private:
  std::string url_;
  int left_;
};

TEST(RetryLoop, HalvesForOneWaveOfSlowDownAndGrowsByOneForEachCleanWindow) {
  std::atomic<int> under_way = 0;
  std::mutex mutex;
  std::vector<int> seen;  // how many were under way when request n came
  test::ScriptedServer server([&](const test::ScriptedRequest&, int number) {
    const int now = ++under_way;
    {
      const std::scoped_lock lock(mutex);
      seen.resize(std::max<std::size_t>(seen.size(), static_cast<std::size_t>(number) + 1));
      seen[static_cast<std::size_t>(number)] = now;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    --under_way;
    return test::ScriptedReply{.status = number < 8 ? 503 : 200};
  });
  HttpClient client({.connections = 8});
  RetryPolicy policy;
  policy.backoff_base = policy.backoff_cap = std::chrono::milliseconds(1);
  RetryLoop loop(client, policy, 8);
  ManyGets gets(server.endpoint() + "/x", 60);
  loop.run(gets, nullptr);
  const auto most = [&](std::size_t first, std::size_t last) {
    return *std::max_element(seen.begin() + static_cast<std::ptrdiff_t>(first),
                             seen.begin() + static_cast<std::ptrdiff_t>(last));
  };
  ASSERT_EQ(seen.size(), 68U);
  EXPECT_EQ(most(0, 8), 8);
  // Eight refusals of one window halve once: 8 -> 4, not to 1. 4 + 5 + 6 + 7 successes later it is
  // 8 again.
  EXPECT_LE(most(8, 12), 4);
  EXPECT_GE(most(8, 12), 3);
  EXPECT_LE(most(12, 17), 5);
  EXPECT_EQ(most(40, 68), 8);
}

}  // namespace
}  // namespace onnxferry
