// Temporary credentials that end in the middle of a multipart upload.
#include <mutex>

#include <gmock/gmock.h>

#include "pipeline/storage/digest.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/store_config.h"
#include "tests/unit/storage/credentials_test_support.h"
#include "tests/unit/storage/scripted_server.h"

namespace onnxferry::test {
namespace {

class NullObserver : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t /*done*/, std::uint64_t /*total*/) override {}
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view /*reason*/) override {}
  [[nodiscard]] bool is_cancelled() const override { return false; }
};

/// An S3 server and the container's credentials endpoint in one. The server knows one access key
/// at a time; after `valid_parts` it takes only the next one.
class ExpiryTest : public CredentialsTest {
 protected:
  static constexpr int kParts = 6;
  static constexpr std::size_t kPartBytes = 5U << 20U;

  ScriptedReply answer(const ScriptedRequest& request) {
    const std::scoped_lock lock(mutex_);
    if (request.target == "/credentials") {
      return {.body = credentials_json("KEY" + std::to_string(++handed_out_))};
    }
    const std::string key = "Credential=KEY" + std::to_string(valid_key_) + "/";
    if (request.headers.at("authorization").find(key) == std::string::npos) {
      ++refused_;
      return {.status = 403,
              .headers = {},
              .body = "<Error><Code>ExpiredToken</Code><Message>m</Message></Error>"};
    }
    if (request.method == "POST" && request.target.ends_with("?uploads=")) {
      return {.body =
                  "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
                  "</InitiateMultipartUploadResult>"};
    }
    if (request.method == "POST") {
      completed_ = request.body;
      return {.body =
                  "<CompleteMultipartUploadResult><ETag>e-6</ETag>"
                  "</CompleteMultipartUploadResult>"};
    }
    if (++stored_parts_ == parts_until_expiry_) {
      ++valid_key_;
    }
    return {.headers = {{"ETag", "\"" + to_hex(md5(request.body)) + "\""}}, .body = {}};
  }

  void upload() {
    ScriptedServer server([this](const ScriptedRequest& request, int) { return answer(request); });
    variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = server.endpoint() + "/credentials";
    StoreConfig config;
    config.endpoint = server.endpoint();
    config.part_bytes = kPartBytes;
    config.connections = 4;
    config.retry.attempts = 2;
    const auto stores = make_stores(config, lookup());
    const std::string file = write("object", std::string(kParts * kPartBytes, 'x'));
    NullObserver observer;
    StageScope scope(Stage::kUpload, observer);
    stores->open(ObjectUri::parse("s3://bucket/key")).put_file("key", file, "a/b", scope);
  }

  std::mutex mutex_;
  int handed_out_ = 0;
  int valid_key_ = 1;
  int refused_ = 0;
  int stored_parts_ = 0;
  int parts_until_expiry_ = 3;
  std::string completed_;
};

TEST_F(ExpiryTest, AMultipartUploadGoesOnWithRenewedCredentials) {
  upload();
  EXPECT_EQ(stored_parts_, kParts);
  EXPECT_THAT(completed_, ::testing::HasSubstr("<PartNumber>6</PartNumber>"));
  EXPECT_GE(refused_, 1);
  EXPECT_EQ(handed_out_, 2) << "several refused parts share one renewal";
}

TEST_F(ExpiryTest, CredentialsThatStayRefusedEndTheUpload) {
  valid_key_ = 100;
  const Error error = error_of([this] { upload(); });
  EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(error.message(), ::testing::HasSubstr("ExpiredToken"));
  EXPECT_LE(handed_out_, 4) << "no endless renewing";
}

}  // namespace
}  // namespace onnxferry::test
