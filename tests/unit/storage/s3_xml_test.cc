#include "pipeline/storage/s3_xml.h"

#include <gmock/gmock.h>

namespace onnxferry {
namespace {

using ::testing::ElementsAre;

TEST(S3Xml, ReadsErrorsBehindBlanksAndNamespaces) {
  const S3ErrorInfo error = parse_s3_error(
      "<?xml version=\"1.0\"?>\n  \n<Error xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
      "<Code>SlowDown</Code><Message>a &amp; b</Message><RequestId>R1</RequestId></Error>");
  EXPECT_EQ(error.code, "SlowDown");
  EXPECT_EQ(error.message, "a & b");
  EXPECT_EQ(error.request_id, "R1");
}

TEST(S3Xml, WhatIsNotAnErrorHasNoCode) {
  EXPECT_EQ(parse_s3_error("<html>Code</html>").code, "");
  EXPECT_EQ(parse_s3_error("").code, "");
  EXPECT_EQ(parse_s3_error("{\"a\":1}").code, "");
}

TEST(S3Xml, UploadIdNeedsTheRightRoot) {
  EXPECT_EQ(parse_upload_id("<InitiateMultipartUploadResult><UploadId>u</UploadId>"
                            "</InitiateMultipartUploadResult>"),
            "u");
  EXPECT_EQ(parse_upload_id("<Error><UploadId>u</UploadId></Error>"), std::nullopt);
}

std::string key_page(std::string_view encoding, std::string_view key) {
  return "<ListBucketResult>" + std::string(encoding) + "<Contents><Key>" + std::string(key) +
         "</Key></Contents></ListBucketResult>";
}

TEST(S3Xml, DecodesKeysWhenTheServerEncodedThem) {
  const auto page =
      parse_key_page(key_page("<EncodingType>url</EncodingType>", "p/a+b%2B%2541"), "p/");
  EXPECT_THAT(page->keys, ElementsAre("p/a b+%41"));
}

TEST(S3Xml, LeavesKeysAloneWhenTheServerDidNotEncodeThem) {
  EXPECT_THAT(parse_key_page(key_page("", "p/a+b%41"), "p/")->keys, ElementsAre("p/a+b%41"));
  // Echoes the encoding type but sends raw keys.
  EXPECT_THAT(parse_key_page(key_page("<EncodingType>url</EncodingType>", "p/a b+c"), "p/")->keys,
              ElementsAre("p/a b+c"));
  EXPECT_THAT(parse_key_page(key_page("<EncodingType>url</EncodingType>", "p+/x"), "p+/")->keys,
              ElementsAre("p+/x"));
}

TEST(S3Xml, PagesEndWithoutATruncationMark) {
  EXPECT_EQ(parse_key_page("<ListBucketResult><IsTruncated>true</IsTruncated>"
                           "<NextContinuationToken>t/1=</NextContinuationToken>"
                           "</ListBucketResult>",
                           "")
                ->next_token,
            "t/1=");
  EXPECT_EQ(parse_key_page("<ListBucketResult/>", "")->next_token, "");
  EXPECT_FALSE(parse_key_page("<html/>", "").has_value());
}

TEST(S3Xml, CompleteBodyNumbersPartsFromOne) {
  EXPECT_EQ(complete_upload_body(
                {{.etag = "e1", .checksum = "AA=="}, {.etag = "e2", .checksum = ""}}, ""),
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
            "<Part><PartNumber>1</PartNumber><ETag>&quot;e1&quot;</ETag></Part>"
            "<Part><PartNumber>2</PartNumber><ETag>&quot;e2&quot;</ETag></Part>"
            "</CompleteMultipartUpload>");
  EXPECT_EQ(complete_upload_body({{.etag = "e1", .checksum = "AA=="}}, "ChecksumCRC32C"),
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
            "<Part><PartNumber>1</PartNumber><ETag>&quot;e1&quot;</ETag>"
            "<ChecksumCRC32C>AA==</ChecksumCRC32C></Part></CompleteMultipartUpload>");
}

}  // namespace
}  // namespace onnxferry
