#include <filesystem>

#include <gmock/gmock.h>

#include "pipeline/error.h"
#include "pipeline/storage/object_store.h"

namespace onnxferry {
namespace {

using ::testing::HasSubstr;

std::string refusal(std::string_view uri) {
  try {
    ObjectUri::parse(uri);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
    return error.message();
  }
  return "(accepted)";
}

TEST(ObjectUri, ParsesS3) {
  const ObjectUri uri = ObjectUri::parse("s3://my-bucket.v2/a b/ü+%41?x#y//z/");
  EXPECT_EQ(uri.scheme, ObjectUri::Scheme::kS3);
  EXPECT_EQ(uri.bucket, "my-bucket.v2");
  EXPECT_EQ(uri.key, "a b/ü+%41?x#y//z/");
  EXPECT_EQ(uri.to_string(), "s3://my-bucket.v2/a b/ü+%41?x#y//z/");
}

TEST(ObjectUri, ParsesWholeBucket) {
  EXPECT_EQ(ObjectUri::parse("s3://bucket").key, "");
  EXPECT_EQ(ObjectUri::parse("s3://bucket/").key, "");
}

TEST(ObjectUri, ParsesFileUrisAndPaths) {
  EXPECT_EQ(ObjectUri::parse("file:///data/a%20b.tar").key, "/data/a b.tar");
  EXPECT_EQ(ObjectUri::parse("file://localhost/data").key, "/data");
  EXPECT_EQ(ObjectUri::parse("/data/a%20b/").key, "/data/a%20b/");
  EXPECT_EQ(ObjectUri::parse("model.tar").key,
            (std::filesystem::current_path() / "model.tar").string());
  EXPECT_EQ(ObjectUri::parse("/data/a b").to_string(), "file:///data/a%20b");
}

TEST(ObjectUri, RefusesOtherSchemesByName) {
  EXPECT_THAT(refusal("gs://bucket/x"), HasSubstr("\"gs\""));
  EXPECT_THAT(refusal("file://server/share"), HasSubstr("absolute path"));
}

TEST(ObjectUri, ParsesWebUris) {
  const ObjectUri uri =
      ObjectUri::parse("HTTPS://Host.Example:8443/a%20b//c.tar?X-Sig=s%2F&b#part");
  EXPECT_EQ(uri.scheme, ObjectUri::Scheme::kWeb);
  EXPECT_EQ(uri.bucket, "https://host.example:8443");
  EXPECT_EQ(uri.key, "/a%20b//c.tar?X-Sig=s%2F&b") << "byte for byte, as it may be signed";
  EXPECT_EQ(uri.path(), "/a%20b//c.tar");
  EXPECT_EQ(uri.to_string(), "https://host.example:8443/a%20b//c.tar?***");
  EXPECT_EQ(ObjectUri::parse("https://host:443").bucket, "https://host");
  EXPECT_EQ(ObjectUri::parse("https://host").key, "/");
  EXPECT_EQ(ObjectUri::parse("https://host?q").key, "/?q");
  EXPECT_EQ(ObjectUri::parse("http://[::1]:80/x").bucket, "http://[::1]");
}

TEST(ObjectUri, RefusesWebUrisThatMeanDifferentThingsToDifferentReaders) {
  for (const std::string_view uri : {"https:///x",
                                     "https://:443/x",
                                     "https://[::1/x",
                                     "https://ho st/x",
                                     "https://host%2eevil/x",
                                     "https://h\u00f6st/x"}) {
    EXPECT_THAT(refusal(uri), HasSubstr("host")) << uri;
  }
  EXPECT_THAT(refusal("https://host:0/x"), HasSubstr("port"));
  EXPECT_THAT(refusal("https://host:99999/x"), HasSubstr("port"));
  EXPECT_THAT(refusal("https://host:8x/x"), HasSubstr("port"));
  EXPECT_THAT(refusal("https://host\\@evil/x"), HasSubstr("percent-encoded"));
  EXPECT_THAT(refusal("https://host/a b"), HasSubstr("percent-encoded"));
  EXPECT_THAT(refusal("https://host/a\\b"), HasSubstr("percent-encoded"));
  EXPECT_THAT(refusal("https://user:topsecret@host/x"), HasSubstr("presigned"));
}

TEST(ObjectUri, RefusesBadBucketNames) {
  for (const std::string_view uri : {"s3:///key",
                                     "s3://ab/k",
                                     "s3://Bucket/k",
                                     "s3://-bucket/k",
                                     "s3://bucket-/k",
                                     "s3://a..b/k",
                                     "s3://192.168.0.1/k",
                                     "s3://buck_et/k",
                                     "s3://user:secret@host/k"}) {
    EXPECT_THAT(refusal(uri), HasSubstr("bucket")) << uri;
  }
}

TEST(ObjectUri, RefusesControlCharactersNulAndBadUtf8) {
  EXPECT_THAT(refusal(std::string_view("s3://bucket/a\0b", 15)), HasSubstr("control character"));
  EXPECT_THAT(refusal("s3://bucket/a\nb"), HasSubstr("control character"));
  EXPECT_THAT(refusal("file:///a%00b"), HasSubstr("control character"));
  EXPECT_THAT(refusal("s3://bucket/\xFF"), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal(""), HasSubstr("empty"));
  EXPECT_THAT(refusal("s3://bucket/" + std::string(1025, 'k')), HasSubstr("1025 bytes"));
}

TEST(ObjectUri, MasksSecretsInItsMessages) {
  EXPECT_THAT(refusal("https://u:topsecret@h/k?X-Amz-Signature=abcdef"),
              ::testing::Not(::testing::AnyOf(HasSubstr("topsecret"), HasSubstr("abcdef"))));
  EXPECT_THAT(refusal("s3://user:topsecret@host/k"), ::testing::Not(HasSubstr("topsecret")));
}

}  // namespace
}  // namespace onnxferry
