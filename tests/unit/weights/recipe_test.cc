#include "pipeline/weights/recipe.h"

#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TensorInfo tensor(Dtype dtype, Shape shape) {
  TensorInfo info;
  info.name = "encoder.weight";
  info.dtype = dtype;
  info.shape = std::move(shape);
  info.bytes = item_bytes(dtype);
  for (const std::int64_t dim : info.shape) {
    info.bytes *= static_cast<std::uint64_t>(dim);
  }
  return info;
}

template <typename Function>
void expect_bug(const Function& function, const std::string& text) {
  try {
    function();
    ADD_FAILURE() << "accepted; expected: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInternal);
    EXPECT_THAT(error.message(), HasSubstr(text));
  }
}

TEST(Recipe, Mxfp4HasOneScaleForThirtyTwoValues) {
  const TensorInfo blocks = tensor(Dtype::kUint8, {6, 32});
  const TensorInfo scales = tensor(Dtype::kUint8, {6, 2});
  const Recipe unpacked = transposed_mxfp4(view(blocks), view(scales));
  EXPECT_EQ(unpacked->dtype, Dtype::kFloat32);
  EXPECT_THAT(unpacked->shape, ElementsAre(64, 6));
  EXPECT_THAT(sources(unpacked), ElementsAre(&blocks, &scales));

  const TensorInfo few = tensor(Dtype::kUint8, {6, 1});
  expect_bug([&] { transposed_mxfp4(view(blocks), view(few)); }, "one scale for 16 bytes");
  const TensorInfo wide = tensor(Dtype::kBFloat16, {6, 2});
  expect_bug([&] { transposed_mxfp4(view(blocks), view(wide)); }, "two matrices of bytes");
}

TEST(Recipe, KnowsDtypeShapeAndSizeOfEveryOperation) {
  const TensorInfo weight = tensor(Dtype::kBFloat16, {6, 4});
  const Recipe whole = view(weight);
  EXPECT_EQ(byte_size(whole), 48U);
  EXPECT_THAT(whole->strides, ElementsAre(4, 1));

  const Recipe turned = cast(transpose(whole), Dtype::kFloat32);
  EXPECT_THAT(turned->shape, ElementsAre(4, 6));
  EXPECT_EQ(byte_size(turned), 96U);

  const Recipe part = rows(whole, 2, 3);
  EXPECT_THAT(part->shape, ElementsAre(3, 4));
  EXPECT_EQ(part->view_offset, 8);

  const Recipe joined = concat({part, whole});
  EXPECT_THAT(joined->shape, ElementsAre(9, 4));
  EXPECT_EQ(affine(whole, 1, 1)->dtype, Dtype::kFloat32);
  EXPECT_EQ(byte_size(literal(Dtype::kInt64, {}, std::string(8, '\0'))), 8U);
  EXPECT_EQ(byte_size(generate(Dtype::kInt64, {0, 7}, [](auto, auto) {})), 0U);
}

TEST(Recipe, TransposeAndRowsReachThroughElementwiseOperations) {
  const TensorInfo weight = tensor(Dtype::kFloat32, {6, 4});
  const Recipe turned = transpose(cast(affine(view(weight), 2, 1), Dtype::kFloat16, true));
  EXPECT_EQ(turned->op, RecipeNode::Op::kCast);
  EXPECT_TRUE(turned->clamp);
  EXPECT_THAT(turned->shape, ElementsAre(4, 6));
  const Recipe& view_node = turned->inputs.front()->inputs.front();
  EXPECT_THAT(view_node->strides, ElementsAre(1, 4));
  EXPECT_THAT(rows(turned, 1, 2)->shape, ElementsAre(2, 6));
}

TEST(Recipe, CastToTheSameDtypeIsTheSourceItself) {
  const TensorInfo weight = tensor(Dtype::kFloat16, {3});
  const Recipe source = view(weight);
  EXPECT_EQ(cast(source, Dtype::kFloat16, true), source);
  EXPECT_FALSE(cast(source, Dtype::kFloat32, true)->clamp) << "nothing to clamp in a wider range";
}

TEST(Recipe, ListsSourcesOnceInOrderOfFirstUse) {
  const TensorInfo a = tensor(Dtype::kFloat32, {2});
  const TensorInfo b = tensor(Dtype::kFloat32, {2});
  const Recipe recipe = concat({view(b), binary(BinaryOp::kAdd, view(a), view(b)), view(a)});
  EXPECT_THAT(sources(recipe), ElementsAre(&b, &a));
  EXPECT_TRUE(sources(literal(Dtype::kBool, {0}, "")).empty());
}

TEST(Recipe, RejectsViewsOutsideTheTensor) {
  const TensorInfo weight = tensor(Dtype::kFloat32, {6, 4});
  view(weight, 23, {1}, {1});
  view(weight, 23, {24}, {-1});
  view(weight, 0, {2, 3}, {0, 0});
  view(weight, 1000, {0, 3}, {4, 1});  // no element, nothing read
  expect_bug([&] { view(weight, 24, {1}, {1}); }, "outside tensor encoder.weight");
  expect_bug([&] { view(weight, -1, {1}, {1}); }, "outside tensor encoder.weight");
  expect_bug([&] { view(weight, 22, {24}, {-1}); }, "outside tensor encoder.weight");
  expect_bug([&] { view(weight, 0, {7, 4}, {4, 1}); }, "outside tensor encoder.weight");
  expect_bug([&] { view(weight, 0, {2, 2}, {1}); }, "one stride per dim");
  expect_bug([&] { view(weight, 0, {-1}, {1}); }, "negative dim");
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  expect_bug([&] { view(weight, 0, {3}, {kHuge}); }, "overflows");
  expect_bug([&] { view(weight, kHuge, {2}, {1}); }, "overflows");
  expect_bug([&] { rows(view(weight), 4, 3); }, "rows reach outside");
  expect_bug([&] { rows(view(weight), kHuge, 3); }, "overflows");
}

TEST(Recipe, RejectsWhatDoesNotFitTogether) {
  const TensorInfo weight = tensor(Dtype::kFloat32, {6, 4});
  const TensorInfo half = tensor(Dtype::kFloat16, {6, 4});
  const TensorInfo narrow = tensor(Dtype::kFloat32, {6, 3});
  expect_bug([&] { concat({}); }, "concat of nothing");
  expect_bug([&] { concat({view(weight), view(half)}); }, "different dtypes");
  expect_bug([&] { concat({view(weight), view(narrow)}); }, "trailing dims");
  expect_bug([&] { concat({view(weight, 0, {}, {}), view(weight, 0, {}, {})}); }, "scalars");
  expect_bug([&] { binary(BinaryOp::kAdd, view(weight), view(narrow)); }, "trailing dims");
  expect_bug([&] { transpose(concat({view(weight), view(weight)})); }, "casts and affines");
  expect_bug([&] { transpose(view(weight, 0, {2, 2, 2}, {4, 2, 1})); }, "only a matrix");
  expect_bug([&] { cast(view(weight), Dtype::kInt64); }, "cast");
  expect_bug([&] { literal(Dtype::kInt64, {2}, "12345678"); }, "do not match");
  expect_bug([&] { generate(Dtype::kInt64, {std::int64_t{1} << 61}, [](auto, auto) {}); },
             "overflows");
}

}  // namespace
}  // namespace onnxferry
