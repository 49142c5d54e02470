#include <cstring>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "pipeline/checkpoint/checkpoint.h"
#include "tests/support/tests_dir.h"
#include "tests/unit/checkpoint/checkpoint_files.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using enum ErrorCode;

/// A safetensors file with one U8 tensor for each (name, text); the text is its data.
std::string file_of(const std::vector<std::pair<std::string, std::string>>& tensors) {
  std::string json = "{";
  std::string data;
  for (const auto& [name, text] : tensors) {
    json += (json.size() > 1 ? "," : "") + std::string("\"") + name +
            R"(":{"dtype":"U8","shape":[)" + std::to_string(text.size()) + R"(],"data_offsets":[)" +
            std::to_string(data.size()) + "," + std::to_string(data.size() + text.size()) + "]}";
    data += text;
  }
  return safetensors(json + "}", data);
}

std::string read_all(const WeightFiles& weights, std::string_view name) {
  const TensorInfo* tensor = weights.find(name);
  if (tensor == nullptr) {
    return "(absent)";
  }
  std::string text(tensor->bytes, '\0');
  weights.read(*tensor, 0, std::as_writable_bytes(std::span(text)));
  return text;
}

Error open_error(const TempDirectory& directory) {
  return error_of([&] { WeightFiles::open(directory.path()); });
}

constexpr std::string_view kIndex = "model.safetensors.index.json";

/// Two shards and their index: a and b in the first, c in the second.
void write_sharded(const TempDirectory& directory, std::string_view index) {
  directory.write("model-00001-of-00002.safetensors", file_of({{"a", "AA"}, {"b", "B"}}));
  directory.write("model-00002-of-00002.safetensors", file_of({{"c", "CCC"}}));
  directory.write(std::string(kIndex), index);
}

constexpr const char* kGoodIndex =
    R"({"metadata":{"total_size":6,"nested":[{"x":null}]},"weight_map":{)"
    R"("a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors",)"
    R"("c":"model-00002-of-00002.safetensors"}})";

TEST(WeightFiles, ReadsPartsOfTensors) {
  const TempDirectory directory;
  directory.write("model.safetensors", file_of({{"x", "0123456789"}, {"y", "abc"}}));
  const WeightFiles weights = WeightFiles::open(directory.path());
  ASSERT_EQ(weights.tensors().size(), 2U);
  EXPECT_THAT(weights.file_names(), ElementsAre("model.safetensors"));
  EXPECT_EQ(read_all(weights, "y"), "abc");
  std::string part(3, '\0');
  weights.read(*weights.find("x"), 4, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, "456");
  EXPECT_EQ(weights.find("z"), nullptr);
  EXPECT_EQ(describe(error_of([&] {
                       weights.read(*weights.find("x"), 8, std::as_writable_bytes(std::span(part)));
                     }).code())
                .name,
            "INTERNAL");
}

TEST(WeightFiles, StaysValidWhenMoved) {
  const TempDirectory directory;
  directory.write("model.safetensors", file_of({{"x", "0123"}}));
  WeightFiles first = WeightFiles::open(directory.path());
  const WeightFiles second = std::move(first);
  EXPECT_EQ(read_all(second, "x"), "0123");
}

TEST(WeightFiles, ReadsShardsInFileOrder) {
  const TempDirectory directory;
  write_sharded(directory, kGoodIndex);
  const WeightFiles weights = WeightFiles::open(directory.path());
  EXPECT_THAT(weights.file_names(),
              ElementsAre("model-00001-of-00002.safetensors",
                          "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json"));
  std::string names;
  for (const TensorInfo& tensor : weights.tensors()) {
    names += tensor.name;
  }
  EXPECT_EQ(names, "abc");
  EXPECT_EQ(weights.find("c")->file, 1U);
  EXPECT_EQ(read_all(weights, "b"), "B");
  EXPECT_EQ(read_all(weights, "c"), "CCC");
}

TEST(WeightFiles, PrefersTheSingleFileAsTransformersDoes) {
  const TempDirectory directory;
  write_sharded(directory, kGoodIndex);
  directory.write("model.safetensors", file_of({{"single", "1"}}));
  directory.write("consolidated.safetensors", "not even safetensors");
  directory.write("model.fp16.safetensors", "not even safetensors");
  const WeightFiles weights = WeightFiles::open(directory.path());
  EXPECT_EQ(read_all(weights, "single"), "1");
  EXPECT_EQ(weights.tensors().size(), 1U);
}

TEST(WeightFiles, TakesTheOnlyVariant) {
  const TempDirectory directory;
  directory.write("model.fp16.safetensors", file_of({{"x", "half"}}));
  EXPECT_EQ(read_all(WeightFiles::open(directory.path()), "x"), "half");
}

TEST(WeightFiles, TakesTheOnlyVariantIndex) {
  const TempDirectory directory;
  directory.write("model.fp16-00001-of-00001.safetensors", file_of({{"x", "half"}}));
  directory.write("model.safetensors.index.fp16.json",
                  R"({"weight_map":{"x":"model.fp16-00001-of-00001.safetensors"}})");
  EXPECT_EQ(read_all(WeightFiles::open(directory.path()), "x"), "half");
}

// use_safetensors=None in transformers: safetensors first, sharded or not, and a variant only where
// nothing else is.
TEST(WeightFiles, PrefersSafetensorsToPickles) {
  const TempDirectory directory;
  directory.write("pytorch_model.bin", "not even opened");
  directory.write("pytorch_model.bin.index.json", "not even opened");
  write_sharded(directory, kGoodIndex);
  EXPECT_EQ(WeightFiles::open(directory.path()).tensors().size(), 3U);
  directory.write("model.safetensors", file_of({{"x", "1"}}));
  EXPECT_EQ(WeightFiles::open(directory.path()).tensors().size(), 1U);
}

TEST(WeightFiles, PrefersAPickleToAVariant) {
  const TempDirectory directory;
  const fs::path torch = tests_dir() / "fixtures" / "torch";
  fs::copy_file(torch / "tied-zip" / "pytorch_model.bin", directory.path() / "pytorch_model.bin");
  directory.write("model.fp16.safetensors", file_of({{"x", "half"}}));
  const WeightFiles weights = WeightFiles::open(directory.path());
  EXPECT_NE(weights.find("head.weight"), nullptr);
  EXPECT_THAT(weights.file_names(), testing::ElementsAre("pytorch_model.bin"));
}

TEST(WeightFiles, FollowsLinksOfAHubCache) {
  const TempDirectory directory;
  fs::create_directory(directory.path() / "blobs");
  fs::create_directory(directory.path() / "snapshot");
  directory.write("blobs/0123abcd", file_of({{"x", "linked"}}));
  fs::create_symlink("../blobs/0123abcd", directory.path() / "snapshot" / "model.safetensors");
  EXPECT_EQ(read_all(WeightFiles::open(directory.path() / "snapshot"), "x"), "linked");
}

struct Refusal {
  const char* name;
  std::vector<std::string> files;
  ErrorCode code;
  const char* message_part;
};

class RefusedDirectory : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedDirectory, SaysWhatWasFound) {
  const TempDirectory directory;
  for (const std::string& file : GetParam().files) {
    directory.write(file, file_of({{"x", "1"}}));
  }
  expect_error(open_error(directory), GetParam().code, GetParam().message_part);
}

INSTANTIATE_TEST_SUITE_P(
    WeightFiles,
    RefusedDirectory,
    testing::Values(
        Refusal{"Empty", {}, kCorruptCheckpoint, "has no weights; expected model.safetensors"},
        Refusal{"OnlyPytorchBin",
                {"pytorch_model.bin"},
                kCorruptCheckpoint,
                "pytorch_model.bin: is neither a zip nor a pickle"},
        Refusal{"OnlyGguf", {"model-q4.gguf"}, kUnsupportedModel, "found model-q4.gguf"},
        Refusal{"OnlyTensorFlow", {"tf_model.h5"}, kUnsupportedModel, "found tf_model.h5"},
        Refusal{"Adapter",
                {"adapter_model.safetensors"},
                kUnsupportedModel,
                "merge it into its base model first"},
        Refusal{"AdapterBesideWeights",
                {"adapter_config.json", "model.safetensors"},
                kUnsupportedModel,
                "adapter_config.json makes this an adapter"},
        Refusal{"ShardsWithoutIndex",
                {"model-00001-of-00002.safetensors"},
                kCorruptCheckpoint,
                "but no model.safetensors.index.json"},
        Refusal{"TwoVariants",
                {"model.fp16.safetensors", "model.bf16.safetensors"},
                kUnsupportedModel,
                "found model.bf16.safetensors, model.fp16.safetensors and no model.safetensors"},
        Refusal{"OnlyConsolidated",
                {"consolidated.safetensors"},
                kUnsupportedModel,
                "found consolidated.safetensors"}),
    case_name<Refusal>);

TEST(WeightFiles, RefusesFilesThatAreNotRegular) {
  const TempDirectory directory;
  fs::create_directory(directory.path() / "model.safetensors");
  expect_error(
      open_error(directory), kCorruptCheckpoint, "model.safetensors is not a regular file");
  fs::remove(directory.path() / "model.safetensors");
  ASSERT_EQ(::mkfifo((directory.path() / "model.safetensors").c_str(), 0600), 0);
  expect_error(
      open_error(directory), kCorruptCheckpoint, "model.safetensors is not a regular file");
}

TEST(WeightFiles, ReportsABrokenLinkAndAMissingDirectory) {
  const TempDirectory directory;
  fs::create_symlink("nowhere", directory.path() / "model.safetensors");
  expect_error(open_error(directory), kCorruptCheckpoint, "model.safetensors is missing");
  expect_error(error_of([&] { WeightFiles::open(directory.path() / "absent"); }),
               kSourceNotFound,
               "cannot be listed");
}

TEST(WeightFiles, RefusesEveryTruncation) {
  const std::string whole = file_of({{"x", "0123"}, {"y", "4567"}});
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    const TempDirectory directory;
    directory.write("model.safetensors", std::string_view(whole).substr(0, bytes));
    EXPECT_EQ(open_error(directory).code(), kCorruptCheckpoint) << bytes;
  }
}

TEST(WeightFiles, AFileCutWhileInUseIsAnErrorNotASignal) {
  const TempDirectory directory;
  directory.write("model.safetensors", file_of({{"x", std::string(100'000, 'x')}}));
  const WeightFiles weights = WeightFiles::open(directory.path());
  fs::resize_file(directory.path() / "model.safetensors", 5000);
  expect_error(
      error_of([&] { read_all(weights, "x"); }), kCorruptCheckpoint, "tensor \"x\" ends early");
}

struct BadIndex {
  const char* name;
  std::string json;
  ErrorCode code;
  const char* message_part;
};

class RefusedIndex : public testing::TestWithParam<BadIndex> {};

TEST_P(RefusedIndex, NamesWhatIsWrong) {
  const TempDirectory directory;
  write_sharded(directory, GetParam().json);
  expect_error(open_error(directory), GetParam().code, GetParam().message_part);
}

std::string map(const std::string& entries) {
  return R"({"weight_map":{)" + entries + "}}";
}

const std::string kFirst = R"("model-00001-of-00002.safetensors")";
const std::string kSecond = R"("model-00002-of-00002.safetensors")";
const std::string kAll = R"("a":)" + kFirst + R"(,"b":)" + kFirst + R"(,"c":)" + kSecond;

std::string many_shards() {
  std::string entries;
  for (int i = 0; i < 513; ++i) {
    entries += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":\"" + std::to_string(i) +
               ".safetensors\"";
  }
  return map(entries);
}

INSTANTIATE_TEST_SUITE_P(
    WeightFiles,
    RefusedIndex,
    testing::Values(
        BadIndex{"NotJson", "{", kCorruptCheckpoint, "index is not valid JSON"},
        BadIndex{"NoMap", R"({"metadata":{}})", kCorruptCheckpoint, "has no weight_map"},
        BadIndex{"NestedMapIsNoMap",
                 R"({"metadata":{"weight_map":{}}})",
                 kCorruptCheckpoint,
                 "has no weight_map"},
        BadIndex{"EmptyMap", map(""), kCorruptCheckpoint, "has an empty weight_map"},
        BadIndex{
            "MapIsArray", R"({"weight_map":[]})", kCorruptCheckpoint, "has an array as weight_map"},
        BadIndex{"MapIsString",
                 R"({"weight_map":"x"})",
                 kCorruptCheckpoint,
                 "has a string as weight_map"},
        BadIndex{"MapTwice",
                 R"({"weight_map":{)" + kAll + R"(},"weight_map":{}})",
                 kCorruptCheckpoint,
                 "has weight_map twice"},
        BadIndex{"TensorTwice",
                 map(kAll + R"(,"a":)" + kSecond),
                 kCorruptCheckpoint,
                 "names tensor \"a\" twice"},
        BadIndex{"FileIsNumber",
                 map(R"("a":1)"),
                 kCorruptCheckpoint,
                 "maps tensor \"a\" to a number; expected a file name"},
        BadIndex{
            "FileIsObject", map(R"("a":{})"), kCorruptCheckpoint, "maps tensor \"a\" to an object"},
        BadIndex{"AbsoluteFile",
                 map(R"("a":"/etc/passwd.safetensors")"),
                 kCorruptCheckpoint,
                 "same directory"},
        BadIndex{"ParentFile",
                 map(R"("a":"../secret.safetensors")"),
                 kCorruptCheckpoint,
                 "same directory"},
        BadIndex{"SubdirectoryFile",
                 map(R"("a":"sub/x.safetensors")"),
                 kCorruptCheckpoint,
                 "same directory"},
        BadIndex{"BackslashFile",
                 map(R"("a":"sub\\x.safetensors")"),
                 kCorruptCheckpoint,
                 "same directory"},
        BadIndex{
            "NulInFile", map(R"("a":"x\u0000.safetensors")"), kCorruptCheckpoint, "same directory"},
        BadIndex{"EmptyFile", map(R"("a":"")"), kCorruptCheckpoint, "same directory"},
        BadIndex{"DotDot", map(R"("a":"..")"), kCorruptCheckpoint, "same directory"},
        BadIndex{"OtherFormat",
                 map(R"("a":"pytorch_model.bin")"),
                 kCorruptCheckpoint,
                 "name of a .safetensors file"},
        BadIndex{"MissingShard",
                 map(kAll + R"(,"d":"model-00003-of-00003.safetensors")"),
                 kCorruptCheckpoint,
                 "model-00003-of-00003.safetensors is missing"},
        BadIndex{"TensorNotInItsShard",
                 map(kAll + R"(,"d":)" + kSecond),
                 kCorruptCheckpoint,
                 "maps tensor \"d\" to model-00002-of-00002.safetensors, which does not hold it"},
        BadIndex{"TensorInAnotherShard",
                 map(R"("a":)" + kSecond + R"(,"b":)" + kFirst + R"(,"c":)" + kSecond),
                 kCorruptCheckpoint,
                 "holds tensor \"a\", but model.safetensors.index.json maps it to model-00002"},
        BadIndex{"TensorNotListed",
                 map(R"("a":)" + kFirst + R"(,"c":)" + kSecond),
                 kCorruptCheckpoint,
                 "holds tensor \"b\", but model.safetensors.index.json does not list it"},
        BadIndex{"TooDeep",
                 R"({"metadata":)" + std::string(100000, '[') + "}",
                 kCorruptCheckpoint,
                 "nests deeper than 16 levels"},
        BadIndex{"TooManyShards", many_shards(), kLimitExceeded, "names 513 shards"}),
    case_name<BadIndex>);

TEST(WeightFiles, RefusesATensorInTwoShards) {
  const TempDirectory directory;
  write_sharded(directory, kGoodIndex);
  directory.write("model-00002-of-00002.safetensors", file_of({{"a", "AA"}, {"c", "CCC"}}));
  expect_error(
      open_error(directory), kCorruptCheckpoint, "tensor \"a\" is in two shards: model-00001");
}

class FixtureWeights : public testing::TestWithParam<const char*> {};

TEST_P(FixtureWeights, OpenAndRead) {
  const fs::path directory = tests_dir() / "fixtures" / GetParam() / "checkpoint";
  const WeightFiles weights = WeightFiles::open(directory);
  ASSERT_FALSE(weights.tensors().empty());
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : weights.tensors()) {
    EXPECT_EQ(element_count(tensor.shape) * item_bytes(tensor.dtype), tensor.bytes) << tensor.name;
    EXPECT_EQ(read_all(weights, tensor.name).size(), tensor.bytes);
    bytes += tensor.bytes;
  }
  EXPECT_GT(bytes, 0U);
  EXPECT_LT(bytes, fs::file_size(directory / "model.safetensors"));
}

INSTANTIATE_TEST_SUITE_P(
    WeightFiles,
    FixtureWeights,
    testing::Values("qwen2", "qwen2-tied-bf16", "qwen2-rope-yarn", "bert-fill-mask"),
    [](const auto& param_info) {
      std::string name = param_info.param;
      std::ranges::replace(name, '-', '_');
      return name;
    });

}  // namespace
}  // namespace onnxferry
