// Runs AWS's own signing test suite, when a copy of it is at hand: set
// ONNXFERRY_TEST_SIGV4_SUITE to tests/aws-signing-test-suite/v4 of a checkout of
// https://github.com/awslabs/aws-c-auth (Apache-2.0). The suite is not part of this repository.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "pipeline/storage/encoding.h"
#include "pipeline/storage/sigv4.h"

namespace onnxferry {
namespace {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

struct SuiteCase {
  SigningRequest request;
  std::string body;
};

void add_query(SigningRequest& request, std::string_view text) {
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    const std::size_t equals = pair.find('=');
    const std::string_view value = equals == std::string_view::npos ? "" : pair.substr(equals + 1);
    request.query.emplace_back(uri_decode(pair.substr(0, equals)).value(),
                               uri_decode(value).value());
  }
}

/// Parse "METHOD target HTTP/1.1", headers (with folded lines), an empty line and the body. The
/// target may hold blanks.
SuiteCase parse_request(const std::string& text) {
  SuiteCase parsed;
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  const std::size_t method_end = line.find(' ');
  const std::string target = line.substr(method_end + 1, line.rfind(" HTTP/") - method_end - 1);
  const std::size_t question = target.find('?');
  parsed.request.method = line.substr(0, method_end);
  parsed.request.path = target.substr(0, question);
  if (question != std::string::npos) {
    add_query(parsed.request, std::string_view(target).substr(question + 1));
  }
  while (std::getline(lines, line) && !line.empty()) {
    if (line.front() == ' ') {
      parsed.request.headers.back().second += line;
    } else {
      const std::size_t colon = line.find(':');
      parsed.request.headers.emplace_back(line.substr(0, colon), line.substr(colon + 1));
    }
  }
  std::getline(lines, parsed.body, '\0');
  return parsed;
}

void check_case(const std::filesystem::path& folder) {
  SCOPED_TRACE(folder.filename().string());
  const auto context = nlohmann::json::parse(read_file(folder / "context.json"));
  SuiteCase parsed = parse_request(read_file(folder / "request.txt"));
  Credentials credentials{.access_key = context["credentials"]["access_key_id"],
                          .secret_key = context["credentials"]["secret_access_key"],
                          .session_token = context["credentials"].value("token", "")};
  if (context.value("omit_session_token", false)) {
    credentials.session_token.clear();  // the suite adds it after signing
  }
  const std::string region = context["region"];
  const SystemTime time = std::chrono::sys_days{std::chrono::year{2015} / 8 / 30} +
                          std::chrono::hours(12) + std::chrono::minutes(36);
  SigV4Signer signer(context["service"],
                     context["normalize"] ? PathRule::kNormalized : PathRule::kS3);
  parsed.request.payload_hash = to_hex(sha256(parsed.body));

  const std::string query =
      signer.presign(parsed.request,
                     credentials,
                     region,
                     time,
                     std::chrono::seconds(context["expiration_in_seconds"].get<int>()));
  EXPECT_EQ(query.substr(query.rfind('=') + 1), read_file(folder / "query-signature.txt"));

  if (context["sign_body"]) {
    parsed.request.headers.emplace_back("x-amz-content-sha256", parsed.request.payload_hash);
  }
  const auto added = signer.sign(parsed.request, credentials, region, time);
  const std::string authorization = added.back().second;
  EXPECT_EQ(authorization.substr(authorization.rfind('=') + 1),
            read_file(folder / "header-signature.txt"));
  SigningRequest complete = parsed.request;
  complete.headers.insert(complete.headers.end(), added.begin(), added.end() - 1);
  EXPECT_EQ(signer.canonical_request(complete), read_file(folder / "header-canonical-request.txt"));
}

TEST(SigV4Suite, AllCasesMatch) {
  const char* const root = std::getenv("ONNXFERRY_TEST_SIGV4_SUITE");
  if (root == nullptr) {
    GTEST_SKIP() << "ONNXFERRY_TEST_SIGV4_SUITE is not set (see the head of this file)";
  }
  int cases = 0;
  for (const auto& folder : std::filesystem::directory_iterator(root)) {
    check_case(folder.path());
    ++cases;
  }
  EXPECT_GE(cases, 38);
}

}  // namespace
}  // namespace onnxferry
