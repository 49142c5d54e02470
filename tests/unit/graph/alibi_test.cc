#include "pipeline/graph/alibi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace onnxferry {
namespace {

using ::testing::ElementsAre;

// The values are torch's, from build_alibi_tensor in transformers/models/bloom/modeling_bloom.py.

TEST(AlibiSlopes, ArePowersOfOneBaseForAPowerOfTwo) {
  EXPECT_THAT(alibi_slopes(4), ElementsAre(0.25F, 0.0625F, 0.015625F, 0.00390625F));
  EXPECT_THAT(alibi_slopes(1), ElementsAre(0.00390625F));
}

TEST(AlibiSlopes, OtherCountsTakeOddPowersOfTheNextBase) {
  EXPECT_THAT(alibi_slopes(6), ElementsAre(0.25F, 0.0625F, 0.015625F, 0.00390625F, 0.5F, 0.125F));
  const std::vector<float> twenty = alibi_slopes(20);
  ASSERT_EQ(twenty.size(), 20U);
  EXPECT_EQ(twenty[0], 0.707106769F);
  EXPECT_EQ(twenty[1], 0.49999997F);  // the base is rounded before it is squared
  EXPECT_EQ(twenty[16], 0.840896428F);
  EXPECT_EQ(twenty[19], 0.297301799F);
}

}  // namespace
}  // namespace onnxferry
