#include "pipeline/storage/encoding.h"

#include <vector>

#include <gtest/gtest.h>

namespace onnxferry {
namespace {

TEST(UriEncode, EncodesOnceWithUpperCaseHex) {
  EXPECT_EQ(uri_encode("a b/ü+%41?~*'()!;:=@$", Slash::kKeep),
            "a%20b/%C3%BC%2B%2541%3F~%2A%27%28%29%21%3B%3A%3D%40%24");
  EXPECT_EQ(uri_encode("a/b", Slash::kEncode), "a%2Fb");
}

TEST(UriDecode, RefusesHalfEscapes) {
  EXPECT_EQ(uri_decode("a%20%C3%bc"), "a ü");
  EXPECT_EQ(uri_decode("a%2"), std::nullopt);
  EXPECT_EQ(uri_decode("a%"), std::nullopt);
  EXPECT_EQ(uri_decode("a%zz"), std::nullopt);
}

TEST(Base64, PadsToFours) {
  const auto encode = [](std::vector<std::uint8_t> bytes) { return to_base64(bytes); };
  EXPECT_EQ(encode({}), "");
  EXPECT_EQ(encode({'f'}), "Zg==");
  EXPECT_EQ(encode({'f', 'o'}), "Zm8=");
  EXPECT_EQ(encode({'f', 'o', 'o'}), "Zm9v");
  EXPECT_EQ(encode({0xFF, 0xFF, 0xFE}), "///+");
}

TEST(Utf8, RefusesOverlongSurrogateAndTruncated) {
  EXPECT_TRUE(is_utf8("aü€😀"));
  EXPECT_FALSE(is_utf8("\xC0\xAF"));
  EXPECT_FALSE(is_utf8("\xED\xA0\x80"));
  EXPECT_FALSE(is_utf8("\xF4\x90\x80\x80"));
  EXPECT_FALSE(is_utf8("\xE2\x82"));
  EXPECT_FALSE(is_utf8("\x80"));
}

TEST(MaskSecrets, HidesPresignedParameters) {
  EXPECT_EQ(mask_secrets("https://h/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F2&"
                         "X-Amz-Signature=abc123&X-Amz-Security-Token=t%2Ft&x=1"),
            "https://h/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=***&"
            "X-Amz-Signature=***&X-Amz-Security-Token=***&x=1");
  EXPECT_EQ(mask_secrets("/k?AWSAccessKeyId=AKID&Expires=1&Signature=ab%2Fc%3D"),
            "/k?AWSAccessKeyId=***&Expires=1&Signature=***");
}

TEST(MaskSecrets, HidesUserPartsOfUrls) {
  EXPECT_EQ(mask_secrets("see http://user:p@ss@host:9000/x and https://key@h"),
            "see http://***@host:9000/x and https://***@h");
  EXPECT_EQ(mask_secrets("http://host/path@2x.png"), "http://host/path@2x.png");
}

TEST(MaskSecrets, HidesAuthorizationHeadersAndJson) {
  EXPECT_EQ(mask_secrets("AWS4-HMAC-SHA256 Credential=AKID/20130524/us-east-1/s3/aws4_request, "
                         "SignedHeaders=host, Signature=f0e8"),
            "AWS4-HMAC-SHA256 Credential=***, SignedHeaders=host, Signature=***");
  EXPECT_EQ(mask_secrets(R"({"x-amz-security-token": "abc", "a": 1})"),
            R"({"x-amz-security-token": "***", "a": 1})");
  EXPECT_EQ(mask_secrets("u=https%3A%2F%2Fh%3FX-Amz-Signature%3Dabc"),
            "u=https%3A%2F%2Fh%3FX-Amz-Signature%3D***");
}

TEST(MaskSecrets, LeavesOtherTextAlone) {
  for (const std::string_view text :
       {"", "s3://bucket/key", "the signature is wrong", "key design=1", "NoSignature=1"}) {
    EXPECT_EQ(mask_secrets(text), text);
  }
}

}  // namespace
}  // namespace onnxferry
