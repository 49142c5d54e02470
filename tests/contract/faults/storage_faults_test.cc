// What the S3 store does when the server or the way to it misbehaves: a real server behind
// tests/tools/faultproxy.py, which answers with errors, drops replies, cuts, damages and delays.
#include <algorithm>
#include <thread>

#include <gmock/gmock.h>

#include "pipeline/storage/http.h"
#include "pipeline/storage/sigv4.h"
#include "tests/contract/storage_test_support.h"

namespace onnxferry::test {
namespace {

using ::testing::HasSubstr;

/// The proxy's remote control.
class FaultProxy {
 public:
  explicit FaultProxy(std::string endpoint) : endpoint_(std::move(endpoint)) {}

  /// \param rules  JSON list, see tests/tools/faultproxy.py; the first match wins
  void set(std::string_view rules) { call("PUT", rules); }
  /// JSON: requests seen since set(), with the fault applied and the status.
  std::string log() { return call("GET", ""); }
  /// How often `text` is in the log.
  int count(std::string_view text) {
    const std::string all = log();
    int found = 0;
    for (std::size_t at = all.find(text); at != std::string::npos; at = all.find(text, at + 1)) {
      ++found;
    }
    return found;
  }

 private:
  std::string call(std::string_view method, std::string_view text) {
    HttpClient client(HttpOptions{});
    TextBody body(text);
    HttpRequest request{.method = std::string(method), .url = endpoint_ + "/__fault"};
    request.body = text.empty() ? nullptr : &body;
    request.max_body_bytes = 1U << 20U;
    const auto transfer = client.start(request);
    while (!transfer->is_done()) {
      client.poll(std::chrono::milliseconds(100));
    }
    HttpReply reply = transfer->take_reply();
    EXPECT_EQ(reply.status, 200) << "no fault proxy at " << endpoint_ << ": "
                                 << reply.transport_text;
    return reply.body;
  }

  std::string endpoint_;
};

class StorageFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    if (TestServer::is_left_out()) {
      GTEST_SKIP() << "ONNXFERRY_TEST_S3=skip";
    }
    server_ = TestServer::from_environment("ONNXFERRY_TEST_S3_PROXY_ENDPOINT");
    proxy_.emplace(server_.endpoint);
    proxy_->set("[]");
    config_ = server_.config();
    config_.retry.attempts = 4;
    config_.retry.outage_notice = std::chrono::milliseconds(60);
  }
  void TearDown() override {
    if (proxy_) {
      proxy_->set("[]");
    }
  }

  ObjectStore& store() {
    if (stores_ == nullptr) {
      stores_ = make_stores(config_, server_.credentials());
    }
    return stores_->open(ObjectUri::parse("s3://" + server_.bucket + "/x"));
  }
  /// Upload `content` through put_file with the faults of `rules`.
  void put_file(std::string_view content, std::string_view rules) {
    write_file(folder_.path() / "source", content);
    proxy_->set(rules);
    store().put_file(key_, folder_.path() / "source", "application/octet-stream", scope_);
  }
  std::string download() {
    std::filesystem::remove(folder_.path() / "copy");
    store().download(key_, folder_.path() / "copy", scope_);
    return read_file(folder_.path() / "copy");
  }

  TestServer server_;
  std::optional<FaultProxy> proxy_;
  StoreConfig config_;
  std::unique_ptr<Stores> stores_;
  std::string key_ = unique_prefix() + "object";
  TemporaryFolder folder_;
  RecordingObserver observer_;
  StageScope scope_{Stage::kUpload, observer_};
  const std::string content_ = random_bytes(12 * kMiB, 5);  // three parts
};

TEST_F(StorageFaults, UploadSurvivesSlowDownErrorsAndLostPartReplies) {
  put_file(content_, R"([
    {"match": "^POST .*uploads", "times": 1, "action": "slowdown", "retry_after": 0},
    {"match": "^PUT .*partNumber=1", "times": 2, "action": "slowdown"},
    {"match": "^PUT .*partNumber=2", "times": 2, "action": "slowdown", "status": 500, "code": "InternalError"},
    {"match": "^PUT .*partNumber=3", "times": 1, "action": "lostreply"}])");
  EXPECT_EQ(scope_.bytes(), content_.size());
  EXPECT_TRUE(download() == content_);
}

TEST_F(StorageFaults, DamagedPartIsRefusedByItsDigestAndSentAgain) {
  put_file(content_, R"([{"match": "^PUT .*partNumber=2", "action": "corruptreq"}])");
  EXPECT_EQ(proxy_->count("\"corruptreq\", 400"), 1) << proxy_->log();
  EXPECT_TRUE(download() == content_);
}

TEST_F(StorageFaults, DamagedSmallObjectIsSentAgain) {
  proxy_->set(R"([{"match": "^PUT ", "action": "corruptreq"}])");
  EXPECT_EQ(store().put(key_, "{\"a\": 1}", "application/json", PutCondition::kAlways, scope_),
            PutResult::kWritten);
  EXPECT_EQ(proxy_->count("corruptreq"), 2) << "one in the rules, one in the log";
  EXPECT_EQ(store().get(key_, 100, scope_), "{\"a\": 1}");
}

TEST_F(StorageFaults, ErrorInsideA200OfCompleteIsNotSuccess) {
  put_file(content_, R"([{"match": "^POST .*uploadId=", "times": 2, "action": "err200"}])");
  EXPECT_TRUE(download() == content_);
}

TEST_F(StorageFaults, CompleteThatNeverSucceedsFailsAndAbortsTheUpload) {
  const Error error = error_of([&] {
    put_file(content_, R"([{"match": "^POST .*uploadId=", "times": 99, "action": "err200"}])");
  });
  EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(error.message(), AllOf(HasSubstr("InternalError"), HasSubstr("after 4 attempts")));
  EXPECT_GE(proxy_->count("[\"DELETE "), 1);
  proxy_->set("[]");
  EXPECT_FALSE(store().head(key_, scope_));
}

TEST_F(StorageFaults, LostReplyOfCompleteIsResolvedByLooking) {
  put_file(content_, R"([{"match": "^POST .*uploadId=", "times": 1, "action": "lostreply"}])");
  EXPECT_TRUE(download() == content_);
  // The same on stores that forget a completed upload at once.
  put_file(content_, R"([
    {"match": "^POST .*uploadId=", "times": 1, "action": "lostreply"},
    {"match": "^POST .*uploadId=", "times": 9, "action": "slowdown", "status": 404, "code": "NoSuchUpload"}])");
  EXPECT_EQ(proxy_->count("[\"HEAD "), 1);
  EXPECT_TRUE(download() == content_);
}

TEST_F(StorageFaults, UploadAbortedByAnotherIsNotTakenForDone) {
  const std::string_view rules =
      R"([{"match": "^POST .*uploadId=", "times": 9, "action": "slowdown", "status": 404, "code": "NoSuchUpload"}])";
  const Error absent = error_of([&] { put_file(content_, rules); });
  EXPECT_EQ(absent.code(), ErrorCode::kUnavailable);
  proxy_->set("[]");
  put_file(random_bytes(content_.size(), 6), "[]");  // same size, other bytes
  const Error other = error_of([&] { put_file(content_, rules); });
  EXPECT_EQ(other.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(other.message(), HasSubstr("aborted"));
}

TEST_F(StorageFaults, LostReplyOfConditionalPutIsOurOwnObject) {
  proxy_->set(R"([{"match": "^PUT ", "times": 1, "action": "lostreply"}])");
  EXPECT_EQ(store().put(key_, "mine", "text/plain", PutCondition::kIfAbsent, scope_),
            PutResult::kWritten);
  EXPECT_EQ(proxy_->count(", 412]"), 1) << "the second attempt finds the first one's object";
}

TEST_F(StorageFaults, RetriedConditionalPutStillLosesToAnother) {
  store().put(key_, "theirs", "text/plain", PutCondition::kAlways, scope_);
  proxy_->set(R"([{"match": "^PUT ", "times": 1, "action": "slowdown"}])");
  EXPECT_EQ(store().put(key_, "mine", "text/plain", PutCondition::kIfAbsent, scope_),
            PutResult::kExists);
  EXPECT_EQ(store().get(key_, 100, scope_), "theirs");
}

TEST_F(StorageFaults, ConflictOfConditionalPutIsTriedAgain) {
  proxy_->set(
      R"([{"match": "^PUT ", "times": 2, "action": "slowdown", "status": 409, "code": "ConditionalRequestConflict"}])");
  EXPECT_EQ(store().put(key_, "mine", "text/plain", PutCondition::kIfAbsent, scope_),
            PutResult::kWritten);
}

TEST_F(StorageFaults, StoreWithoutConditionsGetsReadWriteRead) {
  proxy_->set(
      R"([{"match": "^PUT ", "times": 1, "action": "slowdown", "status": 501, "code": "NotImplemented"}])");
  EXPECT_EQ(store().put(key_, "mine", "text/plain", PutCondition::kIfAbsent, scope_),
            PutResult::kWritten);
  EXPECT_EQ(store().put(key_, "other", "text/plain", PutCondition::kIfAbsent, scope_),
            PutResult::kExists);
  EXPECT_EQ(store().get(key_, 100, scope_), "mine");
}

TEST_F(StorageFaults, ConditionsSwitchedOffGetReadWriteRead) {
  config_.conditional = ConditionalWrites::kOff;
  EXPECT_EQ(store().put(key_, "mine", "text/plain", PutCondition::kIfAbsent, scope_),
            PutResult::kWritten);
  EXPECT_EQ(store().put(key_, "other", "text/plain", PutCondition::kIfAbsent, scope_),
            PutResult::kExists);
}

TEST_F(StorageFaults, BrokenRangesGoOnWhereTheyStopped) {
  put_file(content_, "[]");
  StageScope scope(Stage::kDownload, observer_);
  proxy_->set(R"([
    {"match": "^GET ", "times": 1, "action": "cut", "bytes": 1000},
    {"match": "^GET ", "times": 2, "action": "cut", "bytes": 3000000, "fin": true},
    {"match": "^GET ", "times": 1, "action": "slowdown"},
    {"match": "^GET ", "times": 1, "action": "slowdown", "status": 500, "code": "InternalError"}])");
  store().download(key_, folder_.path() / "copy", scope);
  EXPECT_TRUE(read_file(folder_.path() / "copy") == content_);
  EXPECT_EQ(scope.bytes(), content_.size()) << "no byte is fetched twice";
}

TEST_F(StorageFaults, BytesDamagedOnTheWayUpAreRefusedByEveryChecksum) {
  for (const UploadChecksum kind :
       {UploadChecksum::kMd5, UploadChecksum::kCrc32c, UploadChecksum::kCrc64Nvme}) {
    config_.checksum = kind;
    stores_.reset();
    put_file(content_, R"([{"match": "^PUT .*partNumber=2", "action": "corruptreq"}])");
    EXPECT_EQ(proxy_->count("\"corruptreq\", 400"), 1) << proxy_->log();
    EXPECT_TRUE(download() == content_);
    proxy_->set(R"([{"match": "^PUT ", "action": "corruptreq"}])");
    store().put(key_, "{\"a\": 1}", "application/json", PutCondition::kAlways, scope_);
    EXPECT_EQ(proxy_->count("\"corruptreq\", 400"), 1) << proxy_->log();
    EXPECT_EQ(store().get(key_, 100, scope_), "{\"a\": 1}");
  }
}

TEST_F(StorageFaults, BrokenRangesOfAPresignedUrlGoOnWhereTheyStopped) {
  put_file(content_, "[]");
  const std::string host = server_.endpoint.substr(server_.endpoint.find("://") + 3);
  const std::string path = "/" + server_.bucket + "/" + key_;
  SigV4Signer signer("s3", PathRule::kS3);
  const std::string query = signer.presign(
      {.method = "GET",
       .path = path,
       .query = {},
       .headers = {{"host", host}},
       .payload_hash = std::string(kUnsignedPayload)},
      {.access_key = server_.access_key, .secret_key = server_.secret_key, .session_token = {}},
      "us-east-1",
      std::chrono::system_clock::now(),
      std::chrono::seconds(600));
  config_.allow_http = true;
  stores_ = make_stores(config_, [](std::string_view) { return std::nullopt; });
  const ObjectUri uri = ObjectUri::parse(server_.endpoint + path + "?" + query);
  StageScope scope(Stage::kDownload, observer_);
  proxy_->set(R"([
    {"match": "^GET ", "times": 2, "action": "cut", "bytes": 3000000},
    {"match": "^GET ", "times": 1, "action": "slowdown"}])");
  stores_->open(uri).download(uri.key, folder_.path() / "copy", scope);
  EXPECT_TRUE(read_file(folder_.path() / "copy") == content_);
  EXPECT_EQ(scope.bytes(), content_.size()) << "no byte is fetched twice";
  EXPECT_GE(proxy_->count("\"cut\", 206"), 2) << proxy_->log();
}

TEST_F(StorageFaults, OrdinaryFailureThatLastsIsUnavailableAfterTheAttempts) {
  proxy_->set(
      R"([{"match": "^GET ", "times": 99, "action": "slowdown", "status": 500, "code": "InternalError"}])");
  const Error error = error_of([&] { store().get(key_, 10, scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(error.message(), HasSubstr("gave up after 4 attempts"));
  EXPECT_EQ(proxy_->count("\"slowdown\", 500"), 4);
  EXPECT_TRUE(observer_.waits.empty());
}

TEST_F(StorageFaults, OutageIsWaitedOutAndReportedOnce) {
  put_file(content_, "[]");
  proxy_->set(R"([{"match": "^GET ", "times": 12, "action": "slowdown"}])");
  EXPECT_TRUE(download() == content_);
  ASSERT_EQ(observer_.waits.size(), 2U);
  EXPECT_TRUE(observer_.waits[0].first);
  EXPECT_THAT(observer_.waits[0].second, HasSubstr("503 SlowDown"));
  EXPECT_FALSE(observer_.waits[1].first);
}

TEST_F(StorageFaults, OutageEndsAtItsBound) {
  config_.retry.outage_bound = std::chrono::milliseconds(400);
  proxy_->set(R"([{"match": "^GET ", "times": 9999, "action": "slowdown"}])");
  const Error error = error_of([&] { store().get(key_, 10, scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(error.message(), AllOf(HasSubstr("503 SlowDown"), HasSubstr("waiting")));
}

TEST_F(StorageFaults, WithoutABoundAnOutageIsAnOrdinaryFailure) {
  config_.retry.outage_bound = std::chrono::milliseconds(0);
  proxy_->set(R"([{"match": "^GET ", "times": 9999, "action": "slowdown"}])");
  EXPECT_THAT(error_of([&] { store().get(key_, 10, scope_); }).message(),
              HasSubstr("after 4 attempts"));
}

TEST_F(StorageFaults, SilentServerIsGivenUpAndAskedAgain) {
  store().put(key_, "x", "text/plain", PutCondition::kAlways, scope_);
  stores_.reset();
  config_.stall_timeout = std::chrono::seconds(1);
  proxy_->set(R"([{"match": "^GET ", "times": 1, "action": "delay", "ms": 5000}])");
  EXPECT_EQ(store().get(key_, 10, scope_), "x");
}

TEST_F(StorageFaults, CancellationDuringAnOutageIsPrompt) {
  proxy_->set(R"([{"match": "^GET ", "times": 9999, "action": "slowdown"}])");
  config_.retry.backoff_base = config_.retry.backoff_cap = std::chrono::seconds(3600);
  observer_.cancel_after = ~0ULL;
  std::jthread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    observer_.cancel_after = 0;
  });
  EXPECT_EQ(error_of([&] { store().get(key_, 10, scope_); }).code(), ErrorCode::kCancelled);
}

TEST_F(StorageFaults, CancelledUploadIsAborted) {
  observer_.cancel_after = 1;
  EXPECT_EQ(error_of([&] { put_file(content_, "[]"); }).code(), ErrorCode::kCancelled);
  EXPECT_GE(proxy_->count("[\"DELETE "), 1);
  observer_.cancel_after = ~0ULL;
  EXPECT_FALSE(store().head(key_, scope_));
}

TEST_F(StorageFaults, StaleUploadsOfExactlyThisKeyAreAborted) {
  // Uploads that were begun and left: their parts and aborts never reach the server.
  const auto leave_upload = [&](const std::string& key) {
    write_file(folder_.path() / "source", content_);
    proxy_->set(R"([
      {"match": "^PUT .*partNumber", "times": 99, "action": "slowdown", "status": 403, "code": "AccessDenied"},
      {"match": "^DELETE ", "times": 99, "action": "slowdown", "status": 403, "code": "AccessDenied"}])");
    const Error error =
        error_of([&] { store().put_file(key, folder_.path() / "source", "t/p", scope_); });
    EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
  };
  leave_upload(key_);
  leave_upload(key_);
  leave_upload(key_ + ".longer");
  proxy_->set("[]");
  store().abort_stale_uploads(key_, scope_);
  EXPECT_EQ(proxy_->count("[\"DELETE "), 2) << proxy_->log();
  store().abort_stale_uploads(key_, scope_);
  EXPECT_EQ(proxy_->count("[\"DELETE "), 2) << "nothing is left of this key";
  store().abort_stale_uploads(key_ + ".longer", scope_);
  EXPECT_EQ(proxy_->count("[\"DELETE "), 3);
}

}  // namespace
}  // namespace onnxferry::test
