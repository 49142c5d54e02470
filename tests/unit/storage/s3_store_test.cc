// Answers that no real server gives on demand, against a scripted one. The contract itself is
// tested with real servers in tests/contract.
#include <algorithm>
#include <condition_variable>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include <gmock/gmock.h>

#include "pipeline/error.h"
#include "pipeline/storage/digest.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/store_config.h"
#include "tests/unit/storage/scripted_server.h"

namespace onnxferry::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class QuietObserver : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t /*done*/, std::uint64_t /*total*/) override {}
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view /*reason*/) override {}
  [[nodiscard]] bool is_cancelled() const override { return false; }
};

ScriptedReply s3_error(int status, std::string_view code, std::string_view extra = "") {
  return {.status = status,
          .headers = {},
          .body = "<?xml version=\"1.0\"?>\n<Error><Code>" + std::string(code) +
                  "</Code><Message>said so</Message><RequestId>REQ1</RequestId>" +
                  std::string(extra) + "</Error>"};
}

std::string http_date(std::time_t time) {
  char text[64];
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return text;
}

class S3StoreTest : public ::testing::Test {
 protected:
  S3StoreTest()
      : folder_(std::filesystem::path(::testing::TempDir()) /
                ("s3_store_" +
                 std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()))) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    config_.part_bytes = 5U << 20U;
    config_.retry.attempts = 3;
    config_.retry.backoff_base = std::chrono::milliseconds(1);
    config_.retry.backoff_cap = std::chrono::milliseconds(2);
    config_.retry.outage_bound = std::chrono::milliseconds(0);
  }
  ~S3StoreTest() override { std::filesystem::remove_all(folder_); }

  using Answer = std::function<ScriptedReply(const ScriptedRequest&, int)>;

  ObjectStore& store(Answer answer) {
    server_ = std::make_unique<ScriptedServer>(std::move(answer));
    config_.endpoint = server_->endpoint();
    stores_ = make_stores(config_, [this](std::string_view name) -> std::optional<std::string> {
      const auto found = variables_.find(name);
      return found == variables_.end() ? std::nullopt : std::optional(found->second);
    });
    return stores_->open(ObjectUri::parse("s3://bucket/x"));
  }
  [[nodiscard]] std::filesystem::path local(std::string_view name) const { return folder_ / name; }
  template <typename Call>
  Error error_of(Call&& call) {
    try {
      std::forward<Call>(call)();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no Error";
    return {ErrorCode::kInternal, ""};
  }

  std::filesystem::path folder_;
  StoreConfig config_;
  std::map<std::string, std::string, std::less<>> variables_ = {
      {"AWS_ACCESS_KEY_ID", "AKID"}, {"AWS_SECRET_ACCESS_KEY", "secret"}};
  std::unique_ptr<ScriptedServer> server_;
  std::unique_ptr<Stores> stores_;
  QuietObserver observer_;
  StageScope scope_{Stage::kDownload, observer_};
};

TEST_F(S3StoreTest, RequestsAreSignedOverWhatIsSent) {
  ObjectStore& s3 = store([](const ScriptedRequest&, int) { return ScriptedReply{}; });
  s3.put("a b/ü+?.json", "{}", "application/json", PutCondition::kIfAbsent, scope_);
  const ScriptedRequest request = server_->requests().at(0);
  EXPECT_EQ(request.target, "/bucket/a%20b/%C3%BC%2B%3F.json");
  EXPECT_EQ(request.headers.at("x-amz-content-sha256"), to_hex(sha256("{}")));
  EXPECT_EQ(request.headers.at("content-md5"), to_base64(md5("{}")));
  EXPECT_EQ(request.headers.at("if-none-match"), "*");
  EXPECT_EQ(request.headers.at("content-type"), "application/json");
  EXPECT_THAT(
      request.headers.at("authorization"),
      HasSubstr("SignedHeaders=content-md5;content-type;host;if-none-match;x-amz-content-sha256;"
                "x-amz-date"));
  EXPECT_FALSE(request.headers.contains("expect"));
}

TEST_F(S3StoreTest, AStoreWithoutConditionalWritesIsToldOfOnce) {
  std::vector<std::string> notices;
  config_.notice = [&](std::string_view sentence) { notices.emplace_back(sentence); };
  std::map<std::string, std::string> objects;
  ObjectStore& s3 = store([&](const ScriptedRequest& request, int) -> ScriptedReply {
    if (request.headers.contains("if-none-match")) {
      return s3_error(501, "NotImplemented");
    }
    if (request.method == "PUT") {
      objects[request.target] = request.body;
      return {};
    }
    const auto found = objects.find(request.target);
    return found == objects.end()
               ? s3_error(404, "NoSuchKey")
               : ScriptedReply{.status = 200, .headers = {}, .body = found->second};
  });
  const auto put = [&](const std::string& key) {
    return s3.put(key, "{}", "application/json", PutCondition::kIfAbsent, scope_);
  };
  EXPECT_EQ(put("a"), PutResult::kWritten);
  EXPECT_EQ(put("b"), PutResult::kWritten);
  EXPECT_EQ(put("a"), PutResult::kExists);
  ASSERT_EQ(notices.size(), 1);
  EXPECT_THAT(notices.front(), HasSubstr("bucket bucket"));
}

TEST_F(S3StoreTest, UploadedPartsCarryTheirOwnHashes) {
  // Ten parts of one size and a shorter one: some are digested side by side, some alone.
  std::string content;
  for (int i = 0; i < 10; ++i) {
    content.append(std::size_t{5} << 20U, static_cast<char>('a' + i));
  }
  content.append(777, 'q');
  std::ofstream(local("file")) << content;
  ObjectStore& s3 = store([](const ScriptedRequest& request, int) -> ScriptedReply {
    if (request.method == "POST" && request.target.ends_with("uploads=")) {
      return {.status = 200,
              .headers = {},
              .body =
                  "<InitiateMultipartUploadResult><UploadId>u/1+</UploadId>"
                  "</InitiateMultipartUploadResult>"};
    }
    if (request.method == "POST") {
      return {.status = 200,
              .headers = {},
              .body =
                  "  \n<CompleteMultipartUploadResult><ETag>x</ETag>"
                  "</CompleteMultipartUploadResult>"};
    }
    return {
        .status = 200, .headers = {{"ETag", "\"" + to_hex(md5(request.body)) + "\""}}, .body = ""};
  });
  s3.put_file("k", local("file"), "application/octet-stream", scope_);
  std::string assembled(content.size(), '\0');
  int parts = 0;
  std::string complete;
  for (const ScriptedRequest& request : server_->requests()) {
    if (request.method == "PUT") {
      ++parts;
      EXPECT_EQ(request.headers.at("content-md5"), to_base64(md5(request.body)));
      EXPECT_THAT(request.headers.at("authorization"), HasSubstr("SignedHeaders=content-md5;"));
      EXPECT_EQ(request.headers.at("x-amz-content-sha256"), "UNSIGNED-PAYLOAD");
      EXPECT_THAT(request.target, HasSubstr("uploadId=u%2F1%2B"));
      const std::size_t number_at = request.target.find("partNumber=") + 11;
      const std::size_t offset = (std::stoul(request.target.substr(number_at)) - 1) * (5U << 20U);
      EXPECT_TRUE(std::string_view(content).substr(offset).starts_with(request.body));
      assembled.replace(offset, request.body.size(), request.body);
      continue;
    }
    EXPECT_EQ(request.headers.at("x-amz-content-sha256"), to_hex(sha256(request.body)));
    if (!request.body.empty()) {
      complete = request.body;
    }
  }
  EXPECT_EQ(parts, 11);
  EXPECT_TRUE(assembled == content);
  EXPECT_LT(complete.find("<PartNumber>1<"), complete.find("<PartNumber>2<"));
  EXPECT_LT(complete.find("<PartNumber>2<"), complete.find("<PartNumber>3<"));
}

TEST_F(S3StoreTest, WrongPartEtagIsSentAgainButEncryptedOnesAreOpaque) {
  std::ofstream(local("file")) << "small";
  ObjectStore& s3 = store([](const ScriptedRequest& request, int number) -> ScriptedReply {
    const bool is_wrong = number == 0;
    const std::string right = to_hex(md5(request.body));
    return {
        .status = 200, .headers = {{"ETag", is_wrong ? std::string(32, '0') : right}}, .body = ""};
  });
  s3.put_file("k", local("file"), "t/p", scope_);
  EXPECT_EQ(server_->requests().size(), 2U);
  ObjectStore& encrypted = store([](const ScriptedRequest&, int) -> ScriptedReply {
    return {
        .status = 200,
        .headers = {{"ETag", std::string(32, '0')}, {"x-amz-server-side-encryption", "aws:kms"}},
        .body = ""};
  });
  encrypted.put_file("k", local("file"), "t/p", scope_);
  EXPECT_EQ(server_->requests().size(), 1U);
}

/// Holds requests back until so many are there at once, or until two seconds have passed.
class Gate {
 public:
  explicit Gate(int wanted) : wanted_(wanted) {}
  void pass() {
    std::unique_lock lock(mutex_);
    most_ = std::max(most_, ++inside_);
    changed_.notify_all();
    changed_.wait_for(lock, std::chrono::seconds(2), [&] { return most_ >= wanted_; });
    --inside_;
  }
  int most() {
    const std::scoped_lock lock(mutex_);
    return most_;
  }

 private:
  const int wanted_;
  int inside_ = 0;
  int most_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
};

std::vector<FileUpload> small_files(const std::filesystem::path& folder, int count) {
  std::vector<FileUpload> files;
  for (int i = 0; i < count; ++i) {
    const std::string name = "f" + std::to_string(i);
    std::ofstream(folder / name) << std::string(static_cast<std::size_t>(i) * 100, 'x');
    files.push_back({.key = name, .from = folder / name, .content_type = "text/plain"});
  }
  return files;
}

TEST_F(S3StoreTest, SmallFilesTravelSideBySideWithinTheConnections) {
  config_.connections = 4;
  Gate gate(4);
  ObjectStore& s3 = store([&](const ScriptedRequest&, int number) {
    if (number < 4) {
      gate.pass();
    }
    return ScriptedReply{};
  });
  s3.put_files(small_files(folder_, 70), scope_);
  EXPECT_EQ(gate.most(), 4);
  std::map<std::string, std::string> bodies;
  for (const ScriptedRequest& request : server_->requests()) {
    EXPECT_EQ(request.method, "PUT");
    EXPECT_EQ(request.headers.at("content-type"), "text/plain");
    EXPECT_EQ(request.headers.at("content-md5"), to_base64(md5(request.body)));
    bodies[request.target] = request.body;
  }
  ASSERT_EQ(bodies.size(), 70);
  EXPECT_EQ(bodies.at("/bucket/f69"), std::string(6900, 'x'));
  EXPECT_EQ(scope_.bytes(), 69U * 70U / 2 * 100);
}

TEST_F(S3StoreTest, FirstFailureOfSeveralFilesEndsTheOthers) {
  config_.connections = 2;
  ObjectStore& s3 = store([](const ScriptedRequest& request, int number) {
    if (request.target == "/bucket/f3") {
      return s3_error(403, "AccessDenied");
    }
    if (number >= 3) {
      std::this_thread::sleep_for(std::chrono::milliseconds(500));  // slower than the refusal
    }
    return ScriptedReply{};
  });
  const Error error = error_of([&] { s3.put_files(small_files(folder_, 40), scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(error.message(), HasSubstr("s3://bucket/f3"));
  EXPECT_LE(server_->requests().size(), 8U) << "no file is begun after the failure";
}

TEST_F(S3StoreTest, LargeFileAmongSmallOnesIsAMultipartUpload) {
  std::vector<FileUpload> files = small_files(folder_, 3);
  std::ofstream(files[1].from) << std::string(std::size_t{6} << 20U, 'q');
  ObjectStore& s3 = store([](const ScriptedRequest& request, int) -> ScriptedReply {
    if (request.method != "POST") {
      return {};
    }
    return {.status = 200,
            .headers = {},
            .body = request.target.ends_with("uploads=")
                        ? "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
                          "</InitiateMultipartUploadResult>"
                        : "<CompleteMultipartUploadResult/>"};
  });
  s3.put_files(files, scope_);
  std::vector<std::string> asked;
  for (const ScriptedRequest& request : server_->requests()) {
    asked.push_back(request.method + " " + request.target);
  }
  EXPECT_THAT(asked,
              ::testing::UnorderedElementsAre("POST /bucket/f1?uploads=",
                                              "PUT /bucket/f1?partNumber=1&uploadId=u",
                                              "PUT /bucket/f1?partNumber=2&uploadId=u",
                                              "POST /bucket/f1?uploadId=u",
                                              "PUT /bucket/f0",
                                              "PUT /bucket/f2"));
}

TEST_F(S3StoreTest, SkewedClockIsCorrectedByTheServersDate) {
  const std::time_t server_time = std::time(nullptr) - 7200;
  ObjectStore& s3 = store([&](const ScriptedRequest&, int number) {
    ScriptedReply reply =
        number == 0 ? s3_error(403, "RequestTimeTooSkewed") : ScriptedReply{.body = "x"};
    reply.headers["Date"] = http_date(server_time);
    return reply;
  });
  EXPECT_EQ(s3.get("k", 10, scope_), "x");
  const auto requests = server_->requests();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_GT(requests[0].headers.at("x-amz-date"), requests[1].headers.at("x-amz-date"));
}

TEST_F(S3StoreTest, ClockThatIsSetWhileARequestIsTriedIsCorrectedAgain) {
  const std::time_t now = std::time(nullptr);
  ObjectStore& s3 = store([&](const ScriptedRequest&, int number) {
    ScriptedReply reply =
        number < 2 ? s3_error(403, "RequestTimeTooSkewed") : ScriptedReply{.body = "x"};
    reply.headers["Date"] = http_date(number == 0 ? now - 7200 : now);
    return reply;
  });
  EXPECT_EQ(s3.get("k", 10, scope_), "x");
  const auto requests = server_->requests();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_LT(requests[1].headers.at("x-amz-date"), requests[2].headers.at("x-amz-date"));
}

TEST_F(S3StoreTest, ClockThatStaysSkewedIsPermissionDenied) {
  ObjectStore& s3 = store([](const ScriptedRequest&, int) {
    ScriptedReply reply = s3_error(403, "RequestTimeTooSkewed");
    reply.headers["Date"] = http_date(std::time(nullptr));
    return reply;
  });
  const Error error = error_of([&] { s3.get("k", 10, scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(error.message(), HasSubstr("set this machine's clock"));
  EXPECT_EQ(server_->requests().size(), 4U);
}

TEST_F(S3StoreTest, ExpiredTokenIsRenewedOnceFromItsSource) {
  ObjectStore& s3 = store([&](const ScriptedRequest&, int number) {
    if (number == 0) {
      variables_["AWS_SESSION_TOKEN"] = "renewed";
      return s3_error(400, "ExpiredToken");
    }
    return ScriptedReply{.body = "x"};
  });
  EXPECT_EQ(s3.get("k", 10, scope_), "x");
  EXPECT_EQ(server_->requests().at(1).headers.at("x-amz-security-token"), "renewed");
  ObjectStore& stale =
      store([](const ScriptedRequest&, int) { return s3_error(400, "ExpiredToken"); });
  const Error error = error_of([&] { stale.get("k", 10, scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
  EXPECT_EQ(server_->requests().size(), 1U);
}

TEST_F(S3StoreTest, RegionIsLearntFromTheRefusal) {
  ObjectStore& s3 = store([](const ScriptedRequest&, int number) {
    return number == 0 ? s3_error(400, "AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>")
                       : ScriptedReply{.body = "x"};
  });
  EXPECT_EQ(s3.get("k", 10, scope_), "x");
  EXPECT_THAT(server_->requests().at(1).headers.at("authorization"),
              HasSubstr("/eu-west-3/s3/aws4_request"));
}

TEST_F(S3StoreTest, RegionThatNoRefusalNamesIsAskedOfTheBucket) {
  ObjectStore& s3 = store([](const ScriptedRequest& request, int number) -> ScriptedReply {
    if (request.method == "HEAD") {
      return {.status = 403, .headers = {{"x-amz-bucket-region", "ap-south-1"}}, .body = ""};
    }
    return number == 0 ? s3_error(400, "AuthorizationHeaderMalformed") : ScriptedReply{.body = "x"};
  });
  EXPECT_EQ(s3.get("k", 10, scope_), "x");
  const auto requests = server_->requests();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(requests[1].target, "/bucket");
  EXPECT_THAT(requests[2].headers.at("authorization"), HasSubstr("/ap-south-1/s3/aws4_request"));
  EXPECT_EQ(s3.get("k", 10, scope_), "x");
  EXPECT_EQ(server_->requests().size(), 4U) << "the region stays known";
}

TEST_F(S3StoreTest, VirtualHostStylePutsTheBucketIntoTheHost) {
  config_.path_style = false;
  ObjectStore& s3 = store([](const ScriptedRequest&, int) { return ScriptedReply{.body = "x"}; });
  variables_["http_proxy"] = server_->endpoint();  // takes requests for any host
  config_.endpoint = "http://s3.example.invalid";
  stores_ = make_stores(config_, [this](std::string_view name) -> std::optional<std::string> {
    const auto found = variables_.find(name);
    return found == variables_.end() ? std::nullopt : std::optional(found->second);
  });
  (void)s3;
  EXPECT_EQ(stores_->open(ObjectUri::parse("s3://bucket/x")).get("a b", 10, scope_), "x");
  EXPECT_EQ(server_->requests().at(0).target, "http://bucket.s3.example.invalid/a%20b");
  EXPECT_EQ(server_->requests().at(0).headers.at("host"), "bucket.s3.example.invalid");
}

TEST_F(S3StoreTest, ChecksumsGoWithPartsAndIntoComplete) {
  config_.checksum = UploadChecksum::kCrc64Nvme;
  std::ofstream(local("file")) << std::string(std::size_t{6} << 20U, 'q');
  ObjectStore& s3 = store([](const ScriptedRequest& request, int) -> ScriptedReply {
    if (request.method != "POST") {
      return {.status = 200, .headers = {{"ETag", "\"opaque\""}}, .body = ""};
    }
    return {.status = 200,
            .headers = {},
            .body = request.target.ends_with("uploads=")
                        ? "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
                          "</InitiateMultipartUploadResult>"
                        : "<CompleteMultipartUploadResult/>"};
  });
  s3.put_file("k", local("file"), "t/p", scope_);
  const auto requests = server_->requests();
  ASSERT_EQ(requests.size(), 4U);
  EXPECT_EQ(requests.front().headers.at("x-amz-checksum-algorithm"), "CRC64NVME");
  EXPECT_EQ(requests.front().headers.at("x-amz-checksum-type"), "FULL_OBJECT");
  for (const ScriptedRequest& request : requests) {
    if (request.method == "PUT") {
      const std::string sum = request.headers.at("x-amz-checksum-crc64nvme");
      EXPECT_THAT(requests.back().body,
                  HasSubstr("<ChecksumCRC64NVME>" + sum + "</ChecksumCRC64NVME>"));
      EXPECT_FALSE(request.headers.contains("content-md5"));
      // Plain http, and nothing else in the signature that tells these bytes from others.
      EXPECT_EQ(request.headers.at("x-amz-content-sha256"), to_hex(sha256(request.body)));
    }
  }
}

TEST_F(S3StoreTest, RefusedHeadIsExplainedByAGet) {
  ObjectStore& s3 =
      store([](const ScriptedRequest&, int) { return s3_error(403, "AccessDenied"); });
  const Error error = error_of([&] { s3.head("k", scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(error.message(),
              AllOf(HasSubstr("s3://bucket/k"),
                    HasSubstr("403 AccessDenied \"said so\" (request id REQ1)")));
}

TEST_F(S3StoreTest, StoreThatIgnoresRangesIsRefused) {
  ObjectStore& s3 =
      store([](const ScriptedRequest&, int) { return ScriptedReply{.body = "whole object"}; });
  const Error error = error_of([&] { s3.download("k", local("copy"), scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupportedOption);
  EXPECT_THAT(error.message(), HasSubstr("expected 206"));
}

TEST_F(S3StoreTest, WrongContentRangeIsNeverWritten) {
  ObjectStore& s3 = store([](const ScriptedRequest&, int) -> ScriptedReply {
    return {.status = 206,
            .headers = {{"Content-Range", "bytes 1-4/5"}, {"ETag", "\"e\""}},
            .body = "bcde"};
  });
  const Error error = error_of([&] { s3.download("k", local("copy"), scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(error.message(), HasSubstr("\"Content-Range: bytes 1-4/5\", expected bytes 0-"));
  EXPECT_FALSE(std::filesystem::exists(local("copy")));
}

TEST_F(S3StoreTest, SmallObjectsTakeOneRequest) {
  ObjectStore& s3 = store([](const ScriptedRequest&, int) -> ScriptedReply {
    return {.status = 206,
            .headers = {{"Content-Range", "bytes 0-4/5"},
                        {"ETag", "\"e\""},
                        {"x-amz-version-id", "v1"}},
            .body = "abcde"};
  });
  const ObjectInfo info = s3.download("k", local("copy"), scope_);
  EXPECT_EQ(info.bytes, 5U);
  EXPECT_EQ(info.etag, "e");
  EXPECT_EQ(info.version, "v1");
  EXPECT_EQ(server_->requests().size(), 1U);
  EXPECT_EQ(server_->requests()[0].headers.at("range"), "bytes=0-5242879");
}

TEST_F(S3StoreTest, LaterRangesAskForTheSameEtag) {
  const std::string content(std::size_t{12} << 20U, 'r');
  ObjectStore& s3 = store([&](const ScriptedRequest& request, int) -> ScriptedReply {
    std::size_t first = 0;
    std::size_t last = 0;
    EXPECT_EQ(std::sscanf(request.headers.at("range").c_str(), "bytes=%zu-%zu", &first, &last), 2);
    last = std::min(last, content.size() - 1);
    return {.status = 206,
            .headers = {{"Content-Range",
                         "bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" +
                             std::to_string(content.size())},
                        {"ETag", "\"tag\""}},
            .body = content.substr(first, last - first + 1)};
  });
  s3.download("k", local("copy"), scope_);
  const auto requests = server_->requests();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_FALSE(requests[0].headers.contains("if-match"));
  EXPECT_EQ(requests[1].headers.at("if-match"), "\"tag\"");
  EXPECT_EQ(requests[2].headers.at("if-match"), "\"tag\"");
}

TEST_F(S3StoreTest, RedirectsAreNotFollowed) {
  ObjectStore& s3 = store([](const ScriptedRequest&, int) -> ScriptedReply {
    return {.status = 307, .headers = {{"Location", "http://127.0.0.1:1/steal"}}, .body = ""};
  });
  EXPECT_EQ(error_of([&] { s3.get("k", 10, scope_); }).code(), ErrorCode::kPermissionDenied);
  EXPECT_EQ(server_->requests().size(), 1U);
}

TEST_F(S3StoreTest, ServersTextIsMaskedAndCut) {
  ObjectStore& s3 = store([](const ScriptedRequest&, int) -> ScriptedReply {
    return {.status = 403,
            .headers = {},
            .body = "<Error><Code>AccessDenied</Code><Message>X-Amz-Signature=deadbeef " +
                    std::string(10'000, 'm') + "</Message></Error>"};
  });
  const Error error = error_of([&] { s3.get("k", 10, scope_); });
  EXPECT_THAT(error.message(), ::testing::Not(HasSubstr("deadbeef")));
  EXPECT_LT(error.message().size(), 1'000U);
}

TEST_F(S3StoreTest, MissingCredentialsAreToldBeforeAnythingIsSent) {
  variables_.clear();
  ObjectStore& s3 = store([](const ScriptedRequest&, int) { return ScriptedReply{}; });
  EXPECT_THAT(error_of([&] { s3.get("k", 10, scope_); }).message(),
              StartsWith("no S3 credentials"));
  EXPECT_TRUE(server_->requests().empty());
}

}  // namespace
}  // namespace onnxferry::test
