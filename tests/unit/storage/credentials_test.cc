#include "pipeline/storage/credentials.h"

#include <filesystem>
#include <fstream>
#include <map>

#include <gmock/gmock.h>

#include "pipeline/error.h"
#include "pipeline/storage/store_config.h"

namespace onnxferry {
namespace {

using ::testing::HasSubstr;

using Variables = std::map<std::string, std::string, std::less<>>;

EnvironmentLookup lookup(const Variables& variables) {
  return [&variables](std::string_view name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
}

class CredentialFiles : public ::testing::Test {
 protected:
  CredentialFiles()
      : folder_(std::filesystem::path(::testing::TempDir()) /
                ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::create_directories(folder_);
    variables_["AWS_SHARED_CREDENTIALS_FILE"] = (folder_ / "credentials").string();
    variables_["AWS_CONFIG_FILE"] = (folder_ / "config").string();
  }
  ~CredentialFiles() override { std::filesystem::remove_all(folder_); }

  void write(std::string_view name, std::string_view text) {
    std::ofstream(folder_ / name) << text;
    // Two writes within the clock's resolution must still look like two.
    std::filesystem::last_write_time(
        folder_ / name,
        std::filesystem::file_time_type::clock::now() + std::chrono::seconds(++writes_));
  }

  std::filesystem::path folder_;
  Variables variables_;
  int writes_ = 0;
};

std::string failure(CredentialsProvider& provider) {
  try {
    provider.get();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
    return error.message();
  }
  return "(found)";
}

TEST_F(CredentialFiles, EnvironmentComesFirst) {
  write("credentials", "[default]\naws_access_key_id=file\naws_secret_access_key=file-secret\n");
  variables_["AWS_ACCESS_KEY_ID"] = "env";
  variables_["AWS_SECRET_ACCESS_KEY"] = "env-secret";
  variables_["AWS_SESSION_TOKEN"] = "token";
  variables_["MINIO_ROOT_USER"] = "minio";
  variables_["MINIO_ROOT_PASSWORD"] = "minio-secret";
  CredentialsProvider provider(lookup(variables_));
  EXPECT_EQ(provider.get(), (Credentials{"env", "env-secret", "token"}));
}

TEST_F(CredentialFiles, MinioVariablesAreTheFallback) {
  variables_["MINIO_ROOT_USER"] = "minio";
  variables_["MINIO_ROOT_PASSWORD"] = "minio-secret";
  CredentialsProvider provider(lookup(variables_));
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
  CredentialsProvider provider(lookup(variables_));
  EXPECT_EQ(provider.get(), (Credentials{"key", "se=cret", "t"}));
  const StoreConfig config = store_config_from_environment(lookup(variables_));
  EXPECT_EQ(config.region, "eu-central-1");
  EXPECT_EQ(config.endpoint, "http://127.0.0.1:9000");
}

TEST_F(CredentialFiles, ReadsAFileAgainWhenItChanges) {
  write("credentials", "[default]\naws_access_key_id=a\naws_secret_access_key=1\n");
  CredentialsProvider provider(lookup(variables_));
  EXPECT_EQ(provider.get().access_key, "a");
  EXPECT_FALSE(provider.refresh());
  write("credentials", "[default]\naws_access_key_id=b\naws_secret_access_key=2\n");
  EXPECT_TRUE(provider.refresh());
  write("credentials", "[default]\naws_access_key_id=c\naws_secret_access_key=3\n");
  EXPECT_EQ(provider.get().access_key, "c");
}

TEST_F(CredentialFiles, NamesEverythingThatWasLookedFor) {
  write("config", "[default]\nrole_arn = arn:aws:iam::1:role/x\n");
  variables_["AWS_WEB_IDENTITY_TOKEN_FILE"] = "/token";
  CredentialsProvider provider(lookup(variables_));
  EXPECT_THAT(failure(provider),
              AllOf(HasSubstr("AWS_ACCESS_KEY_ID"),
                    HasSubstr("MINIO_ROOT_USER"),
                    HasSubstr((folder_ / "credentials").string()),
                    HasSubstr("role_arn is not supported"),
                    HasSubstr("AWS_WEB_IDENTITY_TOKEN_FILE is set but not supported")));
}

TEST_F(CredentialFiles, HalfACredentialIsAnError) {
  variables_["AWS_ACCESS_KEY_ID"] = "env";
  CredentialsProvider provider(lookup(variables_));
  EXPECT_THAT(failure(provider), HasSubstr("AWS_SECRET_ACCESS_KEY is not"));
}

TEST(StoreConfigEnvironment, SpecificVariablesWin) {
  const Variables variables{{"AWS_ENDPOINT_URL", "http://general"},
                            {"AWS_ENDPOINT_URL_S3", "http://special"},
                            {"AWS_DEFAULT_REGION", "r2"},
                            {"AWS_REGION", "r1"},
                            {"AWS_CA_BUNDLE", "/ca.pem"}};
  const StoreConfig config = store_config_from_environment(lookup(variables));
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
}  // namespace onnxferry
