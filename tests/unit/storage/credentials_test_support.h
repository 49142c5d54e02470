#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "pipeline/error.h"
#include "pipeline/storage/credentials.h"

namespace onnxferry::test {

/// An environment of its own and a folder for files that its variables name.
class CredentialsTest : public ::testing::Test {
 protected:
  CredentialsTest()
      : folder_(std::filesystem::path(::testing::TempDir()) /
                (std::string("credentials_") +
                 ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    variables_["AWS_SHARED_CREDENTIALS_FILE"] = (folder_ / "credentials").string();
    variables_["AWS_CONFIG_FILE"] = (folder_ / "config").string();
    variables_["AWS_EC2_METADATA_DISABLED"] = "true";
    tuning_.connect_timeout = std::chrono::milliseconds(500);
    tuning_.request_timeout = std::chrono::seconds(1);
    tuning_.process_timeout = std::chrono::milliseconds(5'000);
  }
  ~CredentialsTest() override { std::filesystem::remove_all(folder_); }

  EnvironmentLookup lookup() {
    return [this](std::string_view name) -> std::optional<std::string> {
      const auto found = variables_.find(name);
      return found == variables_.end() ? std::nullopt : std::optional(found->second);
    };
  }
  CredentialsProvider provider() { return CredentialsProvider(lookup(), tuning_); }

  std::string write(std::string_view name, std::string_view text) {
    const std::filesystem::path path = folder_ / name;
    std::ofstream(path, std::ios::binary) << text;
    // Two writes within the clock's resolution must still look like two.
    std::filesystem::last_write_time(
        path, std::filesystem::file_time_type::clock::now() + std::chrono::seconds(++writes_));
    return path.string();
  }

  template <typename Call>
  static Error error_of(Call&& call) {
    try {
      std::forward<Call>(call)();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no Error";
    return {ErrorCode::kInternal, ""};
  }
  Error failure() {
    return error_of([this] { provider().get(); });
  }

  std::filesystem::path folder_;
  std::map<std::string, std::string, std::less<>> variables_;
  CredentialsTuning tuning_;
  int writes_ = 0;
};

/// A credentials document that expires in the year 2100.
inline std::string credentials_json(std::string_view key, std::string_view token_name = "Token") {
  return R"({"Version": 1, "Code": "Success", "AccessKeyId": ")" + std::string(key) +
         R"(", "SecretAccessKey": "made-secret", ")" + std::string(token_name) +
         R"(": "made-token", "Expiration": "2100-01-01T00:00:00Z"})";
}

/// What STS answers, for either action.
inline std::string sts_xml(std::string_view key,
                           std::string_view expires = "2100-01-01T00:00:00Z") {
  return R"(<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>)"
         "<AssumedRoleUser><Arn>a</Arn></AssumedRoleUser><Credentials><AccessKeyId>" +
         std::string(key) +
         "</AccessKeyId><SecretAccessKey>made-secret</SecretAccessKey>"
         "<SessionToken>made-token</SessionToken><Expiration>" +
         std::string(expires) +
         "</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
}

}  // namespace onnxferry::test
