#include "pipeline/storage/s3_address.h"

#include <gtest/gtest.h>

namespace onnxferry {
namespace {

S3Address address(std::string endpoint,
                  std::string bucket = "bucket",
                  std::optional<bool> path_style = std::nullopt) {
  StoreConfig config;
  config.endpoint = std::move(endpoint);
  config.region = "eu-west-3";
  config.path_style = path_style;
  return {config, std::move(bucket)};
}

TEST(S3Address, AwsIsVirtualHostStyleUnlessTheBucketHasDots) {
  EXPECT_EQ(address("").host(), "bucket.s3.eu-west-3.amazonaws.com");
  EXPECT_EQ(address("").path("a/b"), "/a/b");
  EXPECT_EQ(address("").path(""), "/");
  EXPECT_EQ(address("", "dotted.name").host(), "s3.eu-west-3.amazonaws.com");
  EXPECT_EQ(address("", "dotted.name").path("a"), "/dotted.name/a");
}

TEST(S3Address, OwnServersArePathStyleUnlessTold) {
  EXPECT_EQ(address("http://127.0.0.1:9000/").host(), "127.0.0.1:9000");
  EXPECT_EQ(address("http://127.0.0.1:9000").path("k"), "/bucket/k");
  EXPECT_EQ(address("http://127.0.0.1:9000").path(""), "/bucket");
  EXPECT_EQ(address("https://Minio.local:443", "bucket", false).host(), "bucket.minio.local");
  EXPECT_EQ(address("https://minio.local", "bucket", false).path("k"), "/k");
  EXPECT_EQ(address("", "bucket", true).host(), "s3.eu-west-3.amazonaws.com");
}

TEST(S3Address, AnEndpointOfAwsFollowsTheRegion) {
  S3Address global = address("https://s3.amazonaws.com");
  EXPECT_EQ(global.host(), "bucket.s3.eu-west-3.amazonaws.com");
  S3Address dual = address("https://s3.dualstack.us-east-1.amazonaws.com");
  EXPECT_EQ(dual.host(), "bucket.s3.dualstack.eu-west-3.amazonaws.com");
  EXPECT_TRUE(dual.learn_region("ap-south-1"));
  EXPECT_EQ(dual.host(), "bucket.s3.dualstack.ap-south-1.amazonaws.com");
  S3Address china = address("");
  EXPECT_TRUE(china.learn_region("cn-north-1"));
  EXPECT_EQ(china.host(), "bucket.s3.cn-north-1.amazonaws.com.cn");
  // Private-link hosts are taken as they are.
  EXPECT_EQ(address("https://bucket.vpce-1.s3.eu-west-3.vpce.amazonaws.com").host(),
            "bucket.vpce-1.s3.eu-west-3.vpce.amazonaws.com");
}

TEST(S3Address, LearnsNoRegionThatIsNone) {
  S3Address aws = address("");
  EXPECT_FALSE(aws.learn_region(""));
  EXPECT_FALSE(aws.learn_region("eu-west-3"));
  EXPECT_FALSE(aws.learn_region("evil.org/"));
  EXPECT_EQ(aws.host(), "bucket.s3.eu-west-3.amazonaws.com");
}

TEST(S3Address, FollowsRedirectsOnlyInsideTheService) {
  S3Address aws = address("");
  EXPECT_FALSE(aws.learn_host("https://bucket.evil.org/k"));
  EXPECT_FALSE(aws.learn_host("https://amazonaws.com.evil.org/k"));
  EXPECT_FALSE(aws.learn_host("https://evil.org\\.amazonaws.com/k"));
  EXPECT_FALSE(aws.learn_host("https://u@bucket.s3.us-west-2.amazonaws.com/k"));
  EXPECT_TRUE(aws.learn_host("https://bucket.s3-us-west-2.amazonaws.com/k"));
  EXPECT_EQ(aws.host(), "bucket.s3-us-west-2.amazonaws.com");
  EXPECT_EQ(aws.path("k"), "/k");
  EXPECT_EQ(aws.region(), "us-west-2");
  EXPECT_FALSE(aws.learn_host("https://bucket.s3-us-west-2.amazonaws.com/k")) << "no loops";

  S3Address own = address("https://s3.example.org:9000");
  EXPECT_FALSE(own.learn_host("https://s3.example.org:9001/bucket/k"));
  EXPECT_FALSE(own.learn_host("https://s3.example.org:9000/bucket/k")) << "already there";
  EXPECT_TRUE(own.learn_host("https://node2.s3.example.org:9000/bucket/k"));
  EXPECT_EQ(own.path("k"), "/bucket/k");
}

}  // namespace
}  // namespace onnxferry
