#include "pipeline/weights/evaluate.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "pipeline/weights/convert.h"
#include "pipeline/weights/evaluator.h"
#include "tests/unit/weights/memory_source.h"

namespace onnxferry {
namespace {

using test::MemoryTensor;
using Bytes = std::vector<std::byte>;

// The obvious model: a recipe as a vector of bytes, one element at a time, nothing streamed.

Bytes element(const RecipeNode& node, std::size_t index, const Bytes& tensor);

std::size_t count_of(const RecipeNode& node) {
  return static_cast<std::size_t>(
      std::accumulate(node.shape.begin(), node.shape.end(), std::int64_t{1}, std::multiplies<>()));
}

Bytes convert_one(const Bytes& value, Dtype from, Dtype to, bool clamp) {
  Bytes out(item_bytes(to));
  const auto overflow = clamp ? kernels::Overflow::kClamp : kernels::Overflow::kToInfinity;
  find_convert(from, to)(value.data(), out.data(), 1, overflow);
  return out;
}

float float_of(const RecipeNode& node, std::size_t index, const Bytes& tensor) {
  float value = 0;
  const Bytes bytes = convert_one(element(node, index, tensor), node.dtype, Dtype::kFloat32, false);
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

Bytes bytes_of(float value) {
  Bytes bytes(sizeof(value));
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

Bytes view_element(const RecipeNode& node, std::size_t index, const Bytes& tensor) {
  std::int64_t at = node.view_offset;
  for (std::size_t i = node.shape.size(); i-- > 0;) {
    const auto size = static_cast<std::size_t>(node.shape[i]);
    at += static_cast<std::int64_t>(index % size) * node.strides[i];
    index /= size;
  }
  const std::size_t item = item_bytes(node.dtype);
  const auto begin = tensor.begin() + at * static_cast<std::int64_t>(item);
  return {begin, begin + static_cast<std::int64_t>(item)};
}

Bytes concat_element(const RecipeNode& node, std::size_t index, const Bytes& tensor) {
  for (const Recipe& part : node.inputs) {
    if (index < count_of(*part)) {
      return element(*part, index, tensor);
    }
    index -= count_of(*part);
  }
  return {};
}

float combine(BinaryOp op, float left, float right) {
  switch (op) {
    case BinaryOp::kAdd:
      return left + right;
    case BinaryOp::kMul:
      return left * right;
    case BinaryOp::kDiv:
      return left / right;
  }
  return 0;
}

/// Of the formula in the format's standard, not of a table.
Bytes mxfp4_element(const RecipeNode& node, std::size_t index, const Bytes& tensor) {
  const auto stored_rows = static_cast<std::size_t>(node.shape[1]);
  const std::size_t column = index / stored_rows;
  const std::size_t row = index % stored_rows;
  const std::size_t columns = static_cast<std::size_t>(node.shape[0]);
  const auto byte_at = [&](const Recipe& part, std::size_t at) {
    return std::to_integer<unsigned>(element(*part, at, tensor).front());
  };
  const unsigned pair = byte_at(node.inputs[0], row * (columns / 2) + column / 2);
  const unsigned scale = byte_at(node.inputs[1], row * (columns / 32) + column / 32);
  const unsigned bits = column % 2 == 0 ? pair & 0xFU : pair >> 4U;
  const int exponent = static_cast<int>(bits >> 1U & 3U);
  const float mantissa = (bits & 1U) != 0 ? 0.5F : 0.0F;
  const float magnitude = exponent == 0 ? mantissa : std::ldexp(1.0F + mantissa, exponent - 1);
  const float value = (bits & 8U) != 0 ? -magnitude : magnitude;
  return bytes_of(value * std::exp2(static_cast<float>(scale) - 127.0F));
}

Bytes element(const RecipeNode& node, std::size_t index, const Bytes& tensor) {
  const std::size_t item = item_bytes(node.dtype);
  Bytes out(item);
  switch (node.op) {
    case RecipeNode::Op::kView:
      return view_element(node, index, tensor);
    case RecipeNode::Op::kConcat:
      return concat_element(node, index, tensor);
    case RecipeNode::Op::kCast: {
      const RecipeNode& source = *node.inputs.front();
      return convert_one(element(source, index, tensor), source.dtype, node.dtype, node.clamp);
    }
    case RecipeNode::Op::kAffine: {
      const float scaled =
          static_cast<float>(node.scale) * float_of(*node.inputs.front(), index, tensor);
      return bytes_of(scaled + static_cast<float>(node.shift));
    }
    case RecipeNode::Op::kBinary:
      return bytes_of(
          combine(node.binary,
                  float_of(*node.inputs[0], index, tensor),
                  float_of(*node.inputs[1], index % count_of(*node.inputs[1]), tensor)));
    case RecipeNode::Op::kMxfp4:
      return mxfp4_element(node, index, tensor);
    case RecipeNode::Op::kLiteral:
      std::memcpy(out.data(), node.literal.data() + index * item, item);
      return out;
    case RecipeNode::Op::kGenerate:
      node.generate(index, out);
      return out;
  }
  return out;
}

Bytes model(const Recipe& recipe, const Bytes& tensor) {
  Bytes all;
  for (std::size_t i = 0; i < count_of(*recipe); ++i) {
    const Bytes one = element(*recipe, i, tensor);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

/// Hands out windows of a fixed size and keeps what is written.
class WindowSink : public ByteSink {
 public:
  explicit WindowSink(std::size_t window) : window_(window) {}
  std::span<std::byte> window(std::size_t at_least) override {
    window_ = std::max(window_, at_least);
    return std::span(window_memory_.emplace_back(window_));
  }
  void advance(std::size_t count) override {
    const Bytes& last = window_memory_.back();
    ASSERT_LE(count, last.size());
    bytes.insert(bytes.end(), last.begin(), last.begin() + static_cast<std::ptrdiff_t>(count));
    window_memory_.clear();
  }
  Bytes bytes;

 private:
  std::size_t window_;
  std::vector<Bytes> window_memory_;
};

Bytes run(const Recipe& recipe,
          const TensorSource& source,
          const EvaluationLimits& limits = {},
          std::size_t window = 1 << 16) {
  WindowSink sink(window);
  Evaluator(source, limits).run(recipe, sink);
  return sink.bytes;
}

/// Equal, or both NaN where the elements are float32: payloads are free, and which NaN an addition
/// of two returns is up to the processor.
void expect_same(const Bytes& actual, const Bytes& expected, Dtype dtype) {
  RC_ASSERT(actual.size() == expected.size());
  if (dtype != Dtype::kFloat32) {
    RC_ASSERT(actual == expected);
    return;
  }
  for (std::size_t i = 0; i < actual.size(); i += sizeof(float)) {
    float a = 0;
    float b = 0;
    std::memcpy(&a, &actual[i], sizeof(a));
    std::memcpy(&b, &expected[i], sizeof(b));
    RC_ASSERT((std::isnan(a) && std::isnan(b)) ||
              std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b));
  }
}

// Random recipes over one tensor.

/// Uniform from the first case on, unlike a bare inRange, which starts at `low` and grows.
int pick(int low, int high) {
  return *rc::gen::resize(rc::kNominalSize, rc::gen::inRange(low, high + 1));
}

Shape random_shape(int most_dims, int largest) {
  Shape shape(static_cast<std::size_t>(pick(0, most_dims)));
  for (std::int64_t& dim : shape) {
    dim = pick(0, 29) == 0 ? 0 : pick(1, largest);
  }
  return shape;
}

/// A window with random order, steps and direction of the tensor's dims.
Recipe random_view(const TensorInfo& tensor) {
  Shape shape;
  std::vector<std::int64_t> strides;
  std::int64_t offset = 0;
  std::int64_t stride = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    const std::int64_t size = tensor.shape[i];
    const int first = pick(0, static_cast<int>(std::max<std::int64_t>(size - 1, 0)));
    const int step = pick(1, 3);
    const std::int64_t most = size == 0 ? 0 : (size - 1 - first) / step + 1;
    const std::int64_t count = pick(0, 3) == 0 ? pick(0, static_cast<int>(most)) : most;
    const bool is_reversed = count > 0 && pick(0, 5) == 0;
    offset += stride * (first + (is_reversed ? step * (count - 1) : 0));
    const auto at = pick(0, static_cast<int>(shape.size()));
    shape.insert(shape.begin() + at, count);
    strides.insert(strides.begin() + at, stride * step * (is_reversed ? -1 : 1));
    stride *= size;
  }
  return view(tensor, offset, shape, strides);
}

Recipe random_binary(const Recipe& source) {
  const auto op = static_cast<BinaryOp>(pick(0, 2));
  const auto dims = static_cast<std::ptrdiff_t>(source->shape.size());
  const Shape trailing(source->shape.end() - pick(0, static_cast<int>(dims)), source->shape.end());
  const Recipe right =
      generate(Dtype::kInt32, trailing, [](std::uint64_t first, std::span<std::byte> out) {
        for (std::size_t i = 0; i < out.size() / 4; ++i) {
          const auto value = static_cast<std::int32_t>(first + i + 1);
          std::memcpy(out.data() + i * 4, &value, 4);
        }
      });
  return binary(op, source, right);
}

Recipe random_concat(const Recipe& source) {
  if (source->shape.empty()) {
    return source;
  }
  std::vector<Recipe> parts{source, source};
  parts.insert(parts.begin() + pick(0, 2),
               literal(source->dtype,
                       source->shape,
                       std::string(byte_size(source), static_cast<char>(pick(0, 255)))));
  return concat(parts);
}

Recipe random_recipe(const TensorInfo& tensor, int depth) {
  Recipe source = depth > 0 ? random_recipe(tensor, depth - 1)
                            : (pick(0, 2) == 0 ? view(tensor) : random_view(tensor));
  const Dtype dtype = *rc::gen::element(Dtype::kFloat16, Dtype::kBFloat16, Dtype::kFloat32);
  switch (pick(0, 5)) {
    case 0:
      return cast(source, dtype, pick(0, 1) == 1);
    case 1:
      return affine(source, 0.5, 1);
    case 2:
      return random_binary(source);
    case 3:
      return random_concat(source);
    default:
      return source;
  }
}

RC_GTEST_PROP(Evaluate, EqualsTheObviousModel, ()) {
  const Dtype dtype = *rc::gen::element(Dtype::kUint8,
                                        Dtype::kFloat16,
                                        Dtype::kBFloat16,
                                        Dtype::kFloat32,
                                        Dtype::kFloat64,
                                        Dtype::kInt64);
  const MemoryTensor tensor = MemoryTensor::random(dtype, random_shape(4, 9), 5);
  const Recipe recipe = random_recipe(tensor.info, pick(0, 3));
  EvaluationLimits limits;
  limits.strip_bytes = static_cast<std::size_t>(pick(1, 300));
  limits.gather_bytes = 1;
  limits.block_bytes = static_cast<std::size_t>(pick(1, 200));
  const Bytes actual = run(recipe, tensor, limits, static_cast<std::size_t>(pick(1, 300)));
  expect_same(actual, model(recipe, tensor.bytes()), recipe->dtype);
}

RC_GTEST_PROP(Evaluate, TransposesAnyMatrixThroughAnyStrip, ()) {
  const Dtype from = *rc::gen::element(
      Dtype::kUint8, Dtype::kFloat16, Dtype::kBFloat16, Dtype::kFloat32, Dtype::kFloat64);
  const MemoryTensor tensor = MemoryTensor::random(from, {pick(1, 300), pick(1, 120)}, 9);
  const std::int64_t columns = pick(1, static_cast<int>(tensor.info.shape[1]));
  const std::int64_t first = pick(0, static_cast<int>(tensor.info.shape[1] - columns));
  const Recipe part =
      view(tensor.info, first, {tensor.info.shape[0], columns}, {tensor.info.shape[1], 1});
  const Recipe recipe = cast(transpose(part), pick(0, 1) == 0 ? from : Dtype::kFloat32);
  EvaluationLimits limits;
  limits.strip_bytes = static_cast<std::size_t>(pick(1, 1 << pick(1, 17)));
  const Bytes actual = run(recipe, tensor, limits, static_cast<std::size_t>(pick(1, 40000)));
  expect_same(actual, model(recipe, tensor.bytes()), recipe->dtype);
}

RC_GTEST_PROP(Evaluate, UnpacksMxfp4ThroughAnyStrip, ()) {
  const std::int64_t rows = pick(1, 40);
  const std::int64_t step = pick(1, 3);  // gate and up rows alternate
  const std::int64_t blocks = pick(1, 6);
  const std::int64_t width = blocks * 16;
  const MemoryTensor tensor =
      MemoryTensor::random(Dtype::kUint8, {step * rows * (width + blocks)}, 3);
  const std::int64_t first = pick(0, static_cast<int>(step) - 1);
  const Recipe recipe = transposed_mxfp4(
      view(tensor.info, first * width, {rows, width}, {step * width, 1}),
      view(tensor.info, step * rows * width + first * blocks, {rows, blocks}, {step * blocks, 1}));
  EvaluationLimits limits;
  limits.strip_bytes = static_cast<std::size_t>(pick(1, 4000));
  const Recipe wanted = pick(0, 1) == 0 ? recipe : cast(recipe, Dtype::kFloat16);
  const Bytes actual = run(wanted, tensor, limits, static_cast<std::size_t>(pick(1, 5000)));
  expect_same(actual, model(wanted, tensor.bytes()), wanted->dtype);
}

std::uint64_t bytes_read(const MemoryTensor& tensor) {
  std::uint64_t total = 0;
  for (const auto& read : tensor.reads) {
    total += read.bytes;
  }
  return total;
}

TEST(EvaluateTranspose, ReadsAMatrixThatFitsInOneCall) {
  const MemoryTensor tensor = MemoryTensor::random(Dtype::kBFloat16, {640, 700});
  const Recipe recipe = cast(transpose(view(tensor.info)), Dtype::kFloat32);
  EXPECT_EQ(run(recipe, tensor, {}, 5000), model(recipe, tensor.bytes()));
  EXPECT_EQ(tensor.reads.size(), 1U);
}

TEST(EvaluateTranspose, ReadsRowSegmentsOfALargeMatrixExactlyOnce) {
  // 3 strips of 9 rows; the gaps between the segments are longer than it pays to read.
  const MemoryTensor tensor = MemoryTensor::random(Dtype::kFloat16, {9, 9600});
  const Recipe recipe = cast(transpose(view(tensor.info)), Dtype::kFloat32);
  EvaluationLimits limits;
  limits.strip_bytes = std::size_t{9} * 3200 * sizeof(std::uint16_t);
  EXPECT_EQ(run(recipe, tensor, limits), model(recipe, tensor.bytes()));
  EXPECT_EQ(tensor.reads.size(), 27U);
  EXPECT_EQ(bytes_read(tensor), tensor.info.bytes);
}

TEST(EvaluateTranspose, ReadsShortGapsAlongInLongReads) {
  const MemoryTensor tensor = MemoryTensor::random(Dtype::kFloat16, {300, 256});
  const Recipe recipe = transpose(view(tensor.info));
  EvaluationLimits limits;
  limits.strip_bytes = tensor.info.bytes / 2;
  EXPECT_EQ(run(recipe, tensor, limits), model(recipe, tensor.bytes()));
  EXPECT_EQ(tensor.reads.size(), 2U) << "one long read a strip, not one a row";
}

TEST(EvaluateTranspose, SplitsRowsWhenOneColumnIsLargerThanAStrip) {
  const MemoryTensor tensor = MemoryTensor::random(Dtype::kFloat32, {1000, 3});
  const Recipe recipe = transpose(view(tensor.info));
  EvaluationLimits limits;
  limits.strip_bytes = 400;
  EXPECT_EQ(run(recipe, tensor, limits, 700), model(recipe, tensor.bytes()));
  for (const auto& read : tensor.reads) {
    EXPECT_LE(read.bytes, std::size_t{300} * sizeof(float));
  }
}

TEST(EvaluateView, ReadsLongRowsOneByOne) {
  const MemoryTensor tensor = MemoryTensor::random(Dtype::kFloat32, {4, 3, 1000});
  const Recipe recipe = view(tensor.info, 0, {3, 4, 500}, {1000, 3000, 1});
  EXPECT_EQ(run(recipe, tensor), model(recipe, tensor.bytes()));
  EXPECT_EQ(bytes_read(tensor), byte_size(recipe));
}

TEST(EvaluateView, GathersWithOneReadPerBlock) {
  const MemoryTensor tensor = MemoryTensor::random(Dtype::kFloat16, {64, 64, 8});  // 16 blocks
  const Recipe recipe = view(tensor.info, 8, {32, 64, 4}, {16, 512, 2});
  EXPECT_EQ(run(recipe, tensor), model(recipe, tensor.bytes()));
  EXPECT_EQ(tensor.reads.size(), 16U);
}

TEST(EvaluateView, GathersFromATensorLargerThanTheCache) {
  const MemoryTensor tensor = MemoryTensor::random(Dtype::kFloat16, {64, 64, 8});
  const Recipe recipe = view(tensor.info, 8, {32, 64, 4}, {16, 512, 2});
  EvaluationLimits limits;
  limits.gather_bytes = std::size_t{3} * 4096;
  EXPECT_EQ(run(recipe, tensor, limits), model(recipe, tensor.bytes()));
  EXPECT_GT(tensor.reads.size(), 16U);
}

TEST(Evaluate, HandsOutPiecesOfAtMostEightMebibytes) {
  const Recipe recipe =
      generate(Dtype::kInt32, {5 << 20}, [](std::uint64_t first, std::span<std::byte> out) {
        for (std::size_t i = 0; i < out.size() / 4; ++i) {
          const auto value = static_cast<std::int32_t>(first + i);
          std::memcpy(out.data() + i * 4, &value, 4);
        }
      });
  const MemoryTensor unused = MemoryTensor::random(Dtype::kInt8, {});
  std::size_t pieces = 0;
  std::int32_t next = 0;
  evaluate(recipe, unused, [&](std::span<const std::byte> piece) {
    ++pieces;
    ASSERT_LE(piece.size(), std::size_t{8} << 20);
    for (std::size_t i = 0; i < piece.size(); i += 4) {
      std::int32_t value = 0;
      std::memcpy(&value, piece.data() + i, 4);
      ASSERT_EQ(value, next++);
    }
  });
  EXPECT_EQ(next, 5 << 20);
  EXPECT_EQ(pieces, 3U);
}

TEST(Evaluate, EmptyRecipeGivesNoPiece) {
  const MemoryTensor tensor = MemoryTensor::random(Dtype::kFloat32, {0, 4});
  evaluate(transpose(view(tensor.info)), tensor, [](auto) { ADD_FAILURE() << "a piece"; });
}

TEST(Evaluate, BroadcastsALargeRightSideWithoutKeepingIt) {
  const MemoryTensor tensor = MemoryTensor::random(Dtype::kInt8, {7, 50});
  const Recipe recipe = binary(BinaryOp::kMul, view(tensor.info), rows(view(tensor.info), 0, 7));
  const Recipe by_row = binary(BinaryOp::kAdd, view(tensor.info), view(tensor.info, 50, {50}, {1}));
  EvaluationLimits limits;
  limits.block_bytes = 12;  // far less than a row of 50
  EXPECT_EQ(run(recipe, tensor, limits), model(recipe, tensor.bytes()));
  EXPECT_EQ(run(by_row, tensor, limits, 64), model(by_row, tensor.bytes()));
}

TEST(Evaluate, PassesOnWhatTheSourceThrows) {
  MemoryTensor tensor = MemoryTensor::random(Dtype::kFloat16, {9, 9600});
  tensor.fail_after = 12;
  EvaluationLimits limits;
  limits.strip_bytes = std::size_t{9} * 3200 * sizeof(std::uint16_t);
  try {
    run(transpose(view(tensor.info)), tensor, limits);
    FAIL() << "the error is gone";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruptCheckpoint);
  }
}

}  // namespace
}  // namespace onnxferry
