#include "pipeline/storage/credentials.h"

#include <gmock/gmock.h>

#include "pipeline/error.h"
#include "pipeline/storage/store_config.h"
#include "tests/unit/storage/credentials_test_support.h"

namespace onnxferry::test {
namespace {

using ::testing::HasSubstr;

class CredentialFiles : public CredentialsTest {};

TEST_F(CredentialFiles, EnvironmentComesFirst) {
  write("credentials", "[default]\naws_access_key_id=file\naws_secret_access_key=file-secret\n");
  variables_["AWS_ACCESS_KEY_ID"] = "env";
  variables_["AWS_SECRET_ACCESS_KEY"] = "env-secret";
  variables_["AWS_SESSION_TOKEN"] = "token";
  variables_["MINIO_ROOT_USER"] = "minio";
  variables_["MINIO_ROOT_PASSWORD"] = "minio-secret";
  CredentialsProvider provider(lookup(), tuning_);
  EXPECT_EQ(provider.get(), (Credentials{"env", "env-secret", "token"}));
}

TEST_F(CredentialFiles, MinioVariablesAreTheFallback) {
  variables_["MINIO_ROOT_USER"] = "minio";
  variables_["MINIO_ROOT_PASSWORD"] = "minio-secret";
  CredentialsProvider provider(lookup(), tuning_);
  EXPECT_EQ(provider.get(), (Credentials{"minio", "minio-secret", ""}));
}

TEST_F(CredentialFiles, ReadsTheNamedProfileOfBothFiles) {
  write("credentials",
        "# comment\n[default]\naws_access_key_id = no\naws_secret_access_key = no\n"
        "[ci]\naws_access_key_id = key \r\naws_secret_access_key = se=cret\naws_session_token=t\n");
  write("config",
        "[default]\nregion = us-west-2\n[profile ci]\nregion = eu-central-1\n"
        "s3 =\n  region = nested\nendpoint_url = http://127.0.0.1:9000\n");
  variables_["AWS_PROFILE"] = "ci";
  CredentialsProvider provider(lookup(), tuning_);
  EXPECT_EQ(provider.get(), (Credentials{"key", "se=cret", "t"}));
  const StoreConfig config = store_config_from_environment(lookup());
  EXPECT_EQ(config.region, "eu-central-1");
  EXPECT_EQ(config.endpoint, "http://127.0.0.1:9000");
}

TEST_F(CredentialFiles, ReadsAFileAgainWhenItChanges) {
  write("credentials", "[default]\naws_access_key_id=a\naws_secret_access_key=1\n");
  CredentialsProvider provider(lookup(), tuning_);
  const Credentials first = provider.get();
  EXPECT_EQ(first.access_key, "a");
  EXPECT_FALSE(provider.refresh(first));
  write("credentials", "[default]\naws_access_key_id=b\naws_secret_access_key=2\n");
  EXPECT_TRUE(provider.refresh(first));
  write("credentials", "[default]\naws_access_key_id=c\naws_secret_access_key=3\n");
  EXPECT_EQ(provider.get().access_key, "c");
  EXPECT_TRUE(provider.refresh(first)) << "the refused ones are not those in force any more";
}

TEST_F(CredentialFiles, ABrokenChangeIsReportedUntilItIsMended) {
  write("credentials", "[default]\naws_access_key_id=a\naws_secret_access_key=1\n");
  CredentialsProvider provider(lookup(), tuning_);
  provider.get();
  write("credentials", "[default]\naws_access_key_id=a\n");
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(error_of([&] { provider.get(); }).message(), HasSubstr("only one of"));
  }
  write("credentials", "[default]\naws_access_key_id=b\naws_secret_access_key=2\n");
  EXPECT_EQ(provider.get().access_key, "b");
}

TEST_F(CredentialFiles, NamesEverythingThatWasLookedFor) {
  const Error error = failure();
  EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(error.message(),
              AllOf(HasSubstr("AWS_ACCESS_KEY_ID"),
                    HasSubstr("MINIO_ROOT_USER"),
                    HasSubstr("AWS_WEB_IDENTITY_TOKEN_FILE"),
                    HasSubstr("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
                    HasSubstr((folder_ / "credentials").string()),
                    HasSubstr("metadata service is disabled")));
}

TEST_F(CredentialFiles, HalfACredentialIsAnError) {
  variables_["AWS_ACCESS_KEY_ID"] = "env";
  EXPECT_THAT(failure().message(), HasSubstr("AWS_SECRET_ACCESS_KEY is not"));
}

TEST_F(CredentialFiles, SaysWhatARoleLacks) {
  const struct {
    std::string_view config;
    std::string_view says;
  } cases[] = {
      {"role_arn = r\n", "expected one of source_profile, credential_source"},
      {"role_arn = r\nsource_profile = other\n", "\"other\", which gives no credentials"},
      {"role_arn = r\nsource_profile = default\n", "\"default\", which gives no credentials"},
      {"role_arn = r\ncredential_source = Moon\n", "expected Environment, EcsContainer or"},
      {"role_arn = r\ncredential_source = Environment\n", "which gives no credentials"},
      {"role_arn = r\nsource_profile = a\n[profile a]\nrole_arn = r\nsource_profile = b\n"
       "[profile b]\nrole_arn = r\nsource_profile = a\n",
       "leads in a circle"},
      {"role_arn = r\nmfa_serial = 1\nsource_profile = other\n", "mfa_serial"},
      {"sso_session = s\n", "credential_process = aws configure export-credentials"},
      {"credential_process = 'open\n", "a quote that is not closed"},
  };
  for (const auto& one : cases) {
    write("config", "[default]\n" + std::string(one.config));
    const Error error = failure();
    EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied) << one.config;
    EXPECT_THAT(error.message(), HasSubstr(one.says)) << one.config;
  }
}

TEST_F(CredentialFiles, SpecificStoreVariablesWin) {
  variables_ = {{"AWS_ENDPOINT_URL", "http://general"},
                {"AWS_ENDPOINT_URL_S3", "http://special"},
                {"AWS_DEFAULT_REGION", "r2"},
                {"AWS_REGION", "r1"},
                {"AWS_CA_BUNDLE", "/ca.pem"}};
  const StoreConfig config = store_config_from_environment(lookup());
  EXPECT_EQ(config.endpoint, "http://special");
  EXPECT_EQ(config.region, "r1");
  EXPECT_EQ(config.ca_bundle, "/ca.pem");
}

TEST(StoreConfigCheck, ReportsAllProblemsTogether) {
  StoreConfig config;
  config.endpoint = "ftp://user:hidden@host";
  config.connections = 0;
  config.part_bytes = 1;
  const auto problems = check_store_config(config);
  ASSERT_EQ(problems.size(), 3U);
  EXPECT_THAT(problems[0], AllOf(HasSubstr("endpoint"), ::testing::Not(HasSubstr("hidden"))));
  EXPECT_TRUE(check_store_config(StoreConfig{}).empty());
}

TEST(PartSize, KeepsBelowNineThousandParts) {
  constexpr std::uint64_t kMiB = 1U << 20U;
  EXPECT_EQ(part_size_for(0, 16 * kMiB), 16 * kMiB);
  EXPECT_EQ(part_size_for(9000 * 16 * kMiB, 16 * kMiB), 16 * kMiB);
  EXPECT_EQ(part_size_for(9000 * 16 * kMiB + 1, 16 * kMiB), 17 * kMiB);
}

}  // namespace
}  // namespace onnxferry::test
