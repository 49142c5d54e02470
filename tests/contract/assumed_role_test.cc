// A profile's role, taken on at a real security token service: the signature for the service "sts"
// and the use of a session token, checked by a server that is not ours.
#include <gmock/gmock.h>

#include "tests/contract/storage_test_support.h"

namespace onnxferry::test {
namespace {

class AssumedRole : public ::testing::Test {
 protected:
  void SetUp() override {
    if (TestServer::is_left_out()) {
      GTEST_SKIP() << "ONNXFERRY_TEST_S3=skip";
    }
    role_ = variable("ONNXFERRY_TEST_S3_ROLE").value_or("");
    if (role_.empty()) {
      GTEST_SKIP() << "ONNXFERRY_TEST_S3_ROLE is not set: the server has no roles";
    }
    server_ = TestServer::from_environment("ONNXFERRY_TEST_S3_ENDPOINT");
  }

  std::unique_ptr<Stores> stores_for(std::string_view secret) {
    write_file(folder_.path() / "config",
               "[default]\nrole_arn = " + role_ +
                   "\nsource_profile = keys\n[profile keys]\naws_access_key_id = " +
                   server_.access_key + "\naws_secret_access_key = " + std::string(secret) + "\n");
    return make_stores(server_.config(),
                       [file = (folder_.path() / "config").string(), endpoint = server_.endpoint](
                           std::string_view name) -> std::optional<std::string> {
                         if (name == "AWS_CONFIG_FILE") {
                           return file;
                         }
                         return name == "AWS_ENDPOINT_URL_STS" ? std::optional(endpoint)
                                                               : std::nullopt;
                       });
  }

  std::string role_;
  TestServer server_;
  TemporaryFolder folder_;
  RecordingObserver observer_;
  StageScope scope_{Stage::kUpload, observer_};
};

TEST_F(AssumedRole, ReadsAndWrites) {
  const ObjectUri uri = ObjectUri::parse("s3://" + server_.bucket + "/" + unique_prefix() + "k");
  const auto stores = stores_for(server_.secret_key);
  ObjectStore& store = stores->open(uri);
  store.put(uri.key, "bytes", "text/plain", PutCondition::kAlways, scope_);
  EXPECT_EQ(store.get(uri.key, 100, scope_), "bytes");
}

TEST_F(AssumedRole, AWrongSignatureIsRefusedByTheService) {
  const ObjectUri uri = ObjectUri::parse("s3://" + server_.bucket + "/k");
  const auto stores = stores_for("wrong");
  try {
    stores->open(uri).get(uri.key, 100, scope_);
    ADD_FAILURE() << "no Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
    EXPECT_THAT(error.message(), ::testing::HasSubstr("(AssumeRole " + role_ + ") answered 403"));
  }
}

}  // namespace
}  // namespace onnxferry::test
