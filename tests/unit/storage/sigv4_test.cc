#include "pipeline/storage/sigv4.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "pipeline/storage/digest.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

// The worked examples of the S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
const Credentials kExample{.access_key = "AKIAIOSFODNN7EXAMPLE",
                           .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                           .session_token = {}};
const SystemTime kMay24 = std::chrono::sys_days{std::chrono::year{2013} / 5 / 24};
const std::string kHost = "examplebucket.s3.amazonaws.com";

std::string find_header(const std::vector<NameValue>& headers, std::string_view name) {
  const auto found = std::ranges::find(headers, name, &NameValue::first);
  return found == headers.end() ? "(absent)" : found->second;
}

std::string signature_of(const SigningRequest& request) {
  SigV4Signer signer("s3", PathRule::kS3);
  const std::string value =
      find_header(signer.sign(request, kExample, "us-east-1", kMay24), "Authorization");
  return value.substr(value.rfind('=') + 1);
}

SigningRequest get_request(std::string path, std::vector<NameValue> query = {}) {
  return {.method = "GET",
          .path = std::move(path),
          .query = std::move(query),
          .headers = {{"Host", kHost}, {"x-amz-content-sha256", std::string(kEmptySha256)}},
          .payload_hash = std::string(kEmptySha256)};
}

TEST(SigV4S3Examples, SignsGetObjectWithRange) {
  SigningRequest request = get_request("/test.txt");
  request.headers.emplace_back("Range", "bytes=0-9");
  EXPECT_EQ(signature_of(request),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(SigV4S3Examples, SignsPutObjectWhoseKeyNeedsEncoding) {
  const std::string hash = to_hex(sha256("Welcome to Amazon S3."));
  const SigningRequest request{.method = "PUT",
                               .path = "/test$file.text",
                               .query = {},
                               .headers = {{"Date", "Fri, 24 May 2013 00:00:00 GMT"},
                                           {"Host", kHost},
                                           {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
                                           {"x-amz-content-sha256", hash}},
                               .payload_hash = hash};
  EXPECT_EQ(signature_of(request),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

TEST(SigV4S3Examples, SignsParameterWithoutValue) {
  EXPECT_EQ(signature_of(get_request("/", {{"lifecycle", ""}})),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

TEST(SigV4S3Examples, SignsListInAnyParameterOrder) {
  constexpr std::string_view kExpected =
      "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
  EXPECT_EQ(signature_of(get_request("/", {{"max-keys", "2"}, {"prefix", "J"}})), kExpected);
  EXPECT_EQ(signature_of(get_request("/", {{"prefix", "J"}, {"max-keys", "2"}})), kExpected);
}

TEST(SigV4S3Examples, SignsSeedOfChunkedUpload) {
  const std::string hash = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
  const SigningRequest request{.method = "PUT",
                               .path = "/examplebucket/chunkObject.txt",
                               .query = {},
                               .headers = {{"Host", "s3.amazonaws.com"},
                                           {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
                                           {"x-amz-content-sha256", hash},
                                           {"Content-Encoding", "aws-chunked"},
                                           {"x-amz-decoded-content-length", "66560"},
                                           {"Content-Length", "66824"}},
                               .payload_hash = hash};
  EXPECT_EQ(signature_of(request),
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
}

TEST(SigV4S3Examples, PresignsGetObject) {
  SigV4Signer signer("s3", PathRule::kS3);
  const SigningRequest request{.method = "GET",
                               .path = "/test.txt",
                               .query = {},
                               .headers = {{"Host", kHost}},
                               .payload_hash = std::string(kUnsignedPayload)};
  EXPECT_EQ(
      signer.presign(request, kExample, "us-east-1", kMay24, std::chrono::seconds(86400)),
      "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-"
      "east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-"
      "SignedHeaders=host&X-Amz-Signature="
      "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

TEST(SigV4, AddsAndSignsTheSessionToken) {
  Credentials temporary = kExample;
  temporary.session_token = "token/with+signs==";
  SigV4Signer signer("s3", PathRule::kS3);
  const auto added = signer.sign(get_request("/k"), temporary, "us-east-1", kMay24);
  EXPECT_EQ(find_header(added, "x-amz-security-token"), "token/with+signs==");
  EXPECT_NE(find_header(added, "Authorization").find("x-amz-date;x-amz-security-token"),
            std::string::npos);
}

TEST(SigV4, CanonicalPathKeepsDotsAndSlashesOfS3Keys) {
  const SigV4Signer s3("s3", PathRule::kS3);
  const SigV4Signer other("sts", PathRule::kNormalized);
  const SigningRequest request = get_request("/b/a//./../x +%41");
  const auto path_line = [&](const SigV4Signer& signer) {
    const std::string text = signer.canonical_request(request);
    return text.substr(4, text.find('\n', 4) - 4);
  };
  EXPECT_EQ(path_line(s3), "/b/a//./../x%20%2B%2541");
  EXPECT_EQ(path_line(other), "/b/x%20%2B%2541");
}

TEST(SigV4, CachedKeyFollowsSecretRegionAndDay) {
  SigV4Signer signer("s3", PathRule::kS3);
  const auto signed_by = [&](const Credentials& credentials, std::string_view region, int day) {
    return find_header(
        signer.sign(get_request("/k"), credentials, region, kMay24 + std::chrono::hours(24 * day)),
        "Authorization");
  };
  Credentials renewed = kExample;
  renewed.secret_key = "another";
  const std::string first = signed_by(kExample, "us-east-1", 0);
  EXPECT_NE(signed_by(renewed, "us-east-1", 0), first);
  EXPECT_NE(signed_by(kExample, "eu-west-1", 0), first);
  EXPECT_NE(signed_by(kExample, "us-east-1", 1), first);
  EXPECT_EQ(signed_by(kExample, "us-east-1", 0), first);
}

TEST(SigV4, EncodesQueryNamesAndValuesThenSorts) {
  EXPECT_EQ(canonical_query({{"b", "x/y z"}, {"a+", "~"}, {"a", "2"}, {"a", "1"}}),
            "a=1&a=2&a%2B=~&b=x%2Fy%20z");
}

}  // namespace
}  // namespace onnxferry
