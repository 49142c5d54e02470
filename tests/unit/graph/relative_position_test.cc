// Buckets of relative positions against tables from transformers 4.57.6: the distances at which a
// new bucket begins, as printed by MPNetEncoder.relative_position_bucket and
// make_log_bucket_position.

#include "pipeline/graph/relative_position.h"

#include <algorithm>

#include <onnx/onnx_pb.h>

#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

using testing::checkpoint_dir;
using ::testing::HasSubstr;

TEST(BidirectionalBucket, MatchesTransformers) {
  const std::vector<std::int64_t> starts = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91};
  for (std::int64_t distance = 0; distance < 400; ++distance) {
    const auto bucket = std::ranges::upper_bound(starts, distance) - starts.begin() - 1;
    EXPECT_EQ(bidirectional_bucket(-distance, 32, 128), bucket) << distance;
    if (distance > 0) {
      EXPECT_EQ(bidirectional_bucket(distance, 32, 128), bucket + 16) << distance;
    }
  }
}

struct LogBuckets {
  std::int64_t bucket_size, max_position;
  std::vector<std::int64_t> starts;  // of the buckets bucket_size / 2 + 1, …
};

void expect_buckets(const LogBuckets& expected, std::int64_t distances) {
  const std::int64_t middle = expected.bucket_size / 2;
  for (std::int64_t distance = 0; distance < distances; ++distance) {
    const auto begun = std::ranges::upper_bound(expected.starts, distance);
    const std::int64_t bucket =
        distance <= middle ? distance : middle + (begun - expected.starts.begin());
    EXPECT_EQ(log_bucket(distance, expected.bucket_size, expected.max_position), bucket)
        << distance;
    EXPECT_EQ(log_bucket(-distance, expected.bucket_size, expected.max_position), -bucket)
        << distance;
  }
}

TEST(LogBucket, MatchesTransformers) {
  expect_buckets({8, 64, {5, 11, 26, 64, 158}}, 200);
  expect_buckets({32, 128, {17, 19, 22, 25,  28,  32,  37,  43,  49,  56,  64,
                            74, 84, 97, 111, 128, 146, 168, 193, 221, 254, 291}},
                 300);
}

// Every DeBERTa-v3 checkpoint has these.
TEST(LogBucket, MatchesTransformersForTheUsualSizes) {
  expect_buckets(
      {256, 512, {129, 130, 131, 133, 134, 136, 137, 139, 140, 142, 143, 145, 146, 148, 150, 151,
                  153, 155, 156, 158, 160, 161, 163, 165, 167, 169, 170, 172, 174, 176, 178, 180,
                  182, 184, 186, 188, 190, 192, 194, 196, 198, 201, 203, 205, 207, 210, 212, 214,
                  216, 219, 221, 224, 226, 229, 231, 234, 236, 239, 241, 244, 247, 249, 252, 255,
                  258, 260, 263, 266, 269, 272, 275, 278, 281, 284, 287, 290, 294, 297, 300, 303,
                  307, 310, 313, 317, 320, 324, 327, 331, 335, 338, 342, 346, 349, 353, 357, 361,
                  365, 369, 373, 377, 381, 385, 390, 394, 398, 403, 407, 411, 416, 420, 425, 430,
                  434, 439, 444, 449, 454, 459, 464, 469, 474, 479, 484, 490, 495, 500, 506, 512}},
      513);
}

class RelativeRows : public ::testing::Test {
 protected:
  GraphModel build(const RelativeTable& table) {
    GraphBuilder g(tensors_, 17);
    const Value ids = g.input("input_ids", Dtype::kInt64, {"batch_size", "sequence_length"});
    g.output("rows", relative_rows(g, ids, table), {"sequence_length", "sequence_length"});
    GraphModel model = std::move(g).finish();
    check_graph(model);
    return model;
  }

  WeightFiles tensors_ = WeightFiles::open(checkpoint_dir("bert-fill-mask"));
};

TEST_F(RelativeRows, WithoutBucketsNeedNoTable) {
  EXPECT_THAT(print_graph(build({.span = 16})), Not(HasSubstr("Gather")));
}

// The table ends where all further positions fall into its last row.
TEST_F(RelativeRows, TableIsNoLargerThanTheDistancesThatDiffer) {
  const GraphModel model = build({.span = 8, .bucket_size = 8, .max_position = 64});
  // Row 15 (bucket 7) begins at distance 26, row 0 (bucket -8) at -64.
  std::int64_t largest = 0;
  for (const auto& [name, recipe] : model.recipes) {
    largest = std::max(largest, recipe->shape.size() == 1 ? recipe->shape.front() : 0);
  }
  EXPECT_EQ(largest, 2 * 64 + 1);
}

}  // namespace
}  // namespace onnxferry
