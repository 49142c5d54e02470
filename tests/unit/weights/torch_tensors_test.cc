#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/weights/evaluate.h"
#include "tests/support/tests_dir.h"
#include "tests/unit/weights/memory_source.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

const fs::path kFixtures = tests_dir() / "fixtures" / "torch";

std::vector<std::string> fixtures() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kFixtures)) {
    if (entry.is_directory()) {
      names.push_back(entry.path().filename().string());
    }
  }
  std::ranges::sort(names);
  return names;
}

std::string bytes_of(const Recipe& recipe, const TensorSource& source) {
  std::string bytes;
  evaluate(recipe, source, [&](std::span<const std::byte> piece) {
    bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return bytes;
}

class TorchFixture : public ::testing::TestWithParam<std::string> {};

// What torch.save wrote, in every form and order, is what torch says it holds.
TEST_P(TorchFixture, HoldsTheTensorsThatTorchSaved) {
  const fs::path folder = kFixtures / GetParam();
  const WeightFiles found = WeightFiles::open(folder);
  fs::path alone = fs::path(::testing::TempDir()) / ("torch-" + GetParam());
  fs::create_directories(alone);
  fs::copy_file(folder / "expected.safetensors",
                alone / "model.safetensors",
                fs::copy_options::overwrite_existing);
  const WeightFiles expected = WeightFiles::open(alone);
  fs::remove_all(alone);

  ASSERT_EQ(found.tensors().size(), expected.tensors().size());
  for (const TensorInfo& tensor : expected.tensors()) {
    SCOPED_TRACE(tensor.name);
    const TensorInfo* const same = found.find(tensor.name);
    ASSERT_NE(same, nullptr);
    EXPECT_EQ(same->dtype, tensor.dtype);
    EXPECT_EQ(same->shape, tensor.shape);
    EXPECT_TRUE(bytes_of(view(*same), found) == bytes_of(view(tensor), expected));
  }
}

INSTANTIATE_TEST_SUITE_P(TorchTensors,
                         TorchFixture,
                         ::testing::ValuesIn(fixtures()),
                         [](const auto& row) {
                           std::string name = row.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(TorchTensors, TheGoldenFilesAreThere) {
  EXPECT_THAT(fixtures(),
              ::testing::IsSupersetOf({"dtypes-zip", "dtypes-stream", "views-zip", "tied-stream"}));
}

TEST(TorchTensors, TiedWeightsAreTheSameBytes) {
  const WeightFiles weights = WeightFiles::open(kFixtures / "tied-zip");
  EXPECT_EQ(weights.find("head.weight")->offset, weights.find("embedding.weight")->offset);
  EXPECT_EQ(weights.find("head.bias")->offset, weights.find("embedding.weight")->offset);
  EXPECT_EQ(weights.find("head.bias")->bytes, 4 * sizeof(float));
}

/// A [4, 6] tensor whose columns lie one after the other.
test::MemoryTensor transposed() {
  test::MemoryTensor tensor = test::MemoryTensor::random(Dtype::kFloat32, {6, 4});
  tensor.info.shape = {4, 6};
  tensor.info.strides = {1, 4};
  return tensor;
}

/// The same values in row-major order.
test::MemoryTensor row_major(const test::MemoryTensor& stored) {
  const std::string bytes = bytes_of(view(stored.info), stored);
  const auto* const data = reinterpret_cast<const std::byte*>(bytes.data());
  return {Dtype::kFloat32, {4, 6}, std::vector<std::byte>(data, data + bytes.size())};
}

// Builders do not know how a tensor is stored: rows, transposes and windows mean the same.
TEST(StridedTensor, RowsTransposesAndWindowsMeanTheSameAsOnAPlainOne) {
  const test::MemoryTensor strided = transposed();
  const test::MemoryTensor plain = row_major(strided);
  ASSERT_NE(plain.bytes(), strided.bytes());
  const auto expect_same = [&](auto&& make) {
    EXPECT_EQ(bytes_of(make(strided.info), strided), bytes_of(make(plain.info), plain));
  };
  expect_same([](const TensorInfo& t) { return view(t); });
  expect_same([](const TensorInfo& t) { return transpose(view(t)); });
  expect_same([](const TensorInfo& t) { return rows(view(t), 1, 2); });
  expect_same([](const TensorInfo& t) { return transpose(rows(view(t), 1, 2)); });
  expect_same([](const TensorInfo& t) { return cast(transpose(view(t)), Dtype::kFloat16); });
  // [2, 2, 6]: heads of two rows; then every second row, and two columns of it.
  expect_same([](const TensorInfo& t) { return view(t, 0, {2, 2, 6}, {12, 6, 1}); });
  expect_same([](const TensorInfo& t) { return view(t, 6, {2, 6}, {12, 1}); });
  expect_same([](const TensorInfo& t) { return view(t, 8, {2, 2}, {12, 3}); });
  expect_same([](const TensorInfo& t) { return view(t, 0, {3}, {8}); });           // a diagonal
  expect_same([](const TensorInfo& t) { return view(t, 23, {4, 6}, {-6, -1}); });  // backwards
  expect_same([](const TensorInfo& t) { return view(t, 5, {0, 6}, {6, 1}); });
}

TEST(StridedTensor, AWindowThatWrapsAroundARowIsRefused) {
  const test::MemoryTensor strided = transposed();
  try {
    view(strided.info, 0, {24}, {1});
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel);
    EXPECT_THAT(error.message(), ::testing::HasSubstr("stored transposed"));
  }
}

}  // namespace
}  // namespace onnxferry
