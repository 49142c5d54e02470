#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/archive/output_directory.h"
#include "tests/support/tests_dir.h"
#include "tests/unit/archive/sandbox.h"
#include "tests/unit/archive/tar_builder.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;
using enum ErrorCode;

std::string weights() {
  return noise(3 << 20);
}  // several blocks of 1 MiB

std::string flat_model() {
  return TarBuilder()
      .directory("./")
      .file("./config.json", "{}")
      .file("./model.safetensors", weights())
      .file("./tokenizer.json", "tok")
      .end()
      .bytes();
}

TEST(Extract, UnpacksATarByteForByte) {
  Sandbox sandbox;
  const ExtractedArchive result = sandbox.extract(flat_model());
  EXPECT_EQ(result.model_root, sandbox.job());
  EXPECT_THAT(result.files, ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
  EXPECT_THAT(result.skipped, IsEmpty());
  EXPECT_EQ(result.bytes, weights().size() + 5);
  EXPECT_EQ(sandbox.read("model.safetensors"), weights());
  EXPECT_EQ(sandbox.read("tokenizer.json"), "tok");
  EXPECT_EQ(sandbox.observer().done(), result.bytes);
}

TEST(Extract, UnpacksATarGzByContentNotByName) {
  Sandbox sandbox;
  const ExtractedArchive result = sandbox.extract(gzip(flat_model()));
  EXPECT_THAT(result.files, ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
  EXPECT_EQ(sandbox.read("model.safetensors"), weights());
}

TEST(Extract, ReadsGzipOfSeveralMembers) {
  // As pigz, bgzip and `cat a.gz b.gz` write it; one member is cut inside an entry.
  const std::string tar = flat_model();
  Sandbox sandbox;
  const std::string archive = gzip(tar.substr(0, 700)) + gzip("") + gzip(tar.substr(700, 100'000)) +
                              gzip(tar.substr(100'700));
  EXPECT_EQ(sandbox.extract(archive).bytes, weights().size() + 5);
  EXPECT_EQ(sandbox.read("model.safetensors"), weights());
}

TEST(Extract, AcceptsPaddingToTheRecordSize) {
  Sandbox sandbox;
  EXPECT_EQ(
      sandbox
          .extract(
              TarBuilder().file("config.json", "{}").end().raw(std::string(8192, '\0')).bytes())
          .bytes,
      2U);
}

TEST(Extract, ReadsLongAndForeignNames) {
  const std::string long_name = "tokenizer/" + std::string(200, 'n') + ".txt";
  Sandbox sandbox;
  const ExtractedArchive result = sandbox.extract(TarBuilder()
                                                      .file("config.json", "{}")
                                                      .gnu_long_name(long_name)
                                                      .file("cut", "gnu")
                                                      .pax("path", "größe.txt")
                                                      .file("cut", "pax")
                                                      .file("数.txt", "ustar")
                                                      .end()
                                                      .bytes());
  EXPECT_THAT(result.files, ElementsAre("config.json", "größe.txt", long_name, "数.txt"));
  EXPECT_EQ(sandbox.read(long_name), "gnu");
  EXPECT_EQ(sandbox.read("größe.txt"), "pax");
  EXPECT_EQ(sandbox.read("数.txt"), "ustar");
}

TEST(Extract, ReadsBase256Sizes) {
  Sandbox sandbox;
  sandbox.extract(TarBuilder()
                      .file("config.json", "{}")
                      .entry_base256("model.safetensors", 3)
                      .data("abc")
                      .end()
                      .bytes());
  EXPECT_EQ(sandbox.read("model.safetensors"), "abc");
}

TEST(Extract, ReadsAFileOfNoBytes) {
  Sandbox sandbox;
  const ExtractedArchive result =
      sandbox.extract(TarBuilder().file("config.json", "{}").file("empty.txt", "").end().bytes());
  EXPECT_THAT(result.files, ElementsAre("config.json", "empty.txt"));
  EXPECT_TRUE(fs::exists(sandbox.job() / "empty.txt"));
}

TEST(Extract, WritesOnlyWhatTheExporterNeeds) {
  Sandbox sandbox;
  TarBuilder tar;
  tar.file("config.json", "{}")
      .file("model.safetensors", "w")
      .file("README.md", "r")
      .file("LICENSE", "l");
  tar.file("label2id.json", "{}").file("1_Pooling/config.json", "{}").file("spiece.model", "s");
  for (const char* skipped : {"pytorch_model.bin",
                              "tf_model.h5",
                              "flax_model.msgpack",
                              "a.gguf",
                              "modeling_x.py",
                              ".gitattributes",
                              ".git/config",
                              ".cache/huggingface/x.json",
                              "._config.json",
                              "__MACOSX/._x",
                              "training_args.bin",
                              "nested.tar.gz",
                              "onnx/model.onnx",
                              "model.onnx_data",
                              "checkpoint-500/model.safetensors"}) {
    tar.file(skipped, "skipped");
  }
  tar.file("onnx/config.json", "{}");
  const ExtractedArchive result = sandbox.extract(tar.end().bytes());
  EXPECT_THAT(result.files,
              ElementsAre("1_Pooling/config.json",
                          "LICENSE",
                          "README.md",
                          "config.json",
                          "label2id.json",
                          "model.safetensors",
                          "spiece.model"));
  EXPECT_EQ(result.skipped.size(), 16U);
  EXPECT_THAT(result.skipped, testing::Contains("pytorch_model.bin"));
  EXPECT_THAT(result.skipped, testing::Contains("onnx/config.json"));
  EXPECT_FALSE(fs::exists(sandbox.job() / "pytorch_model.bin"));
  EXPECT_FALSE(fs::exists(sandbox.job() / ".git"));
  EXPECT_FALSE(fs::exists(sandbox.job() / "checkpoint-500"));
}

TEST(Extract, SkipsUnknownFilesThatAreLarge) {
  Sandbox sandbox;
  const ExtractedArchive result =
      sandbox.extract(TarBuilder()
                          .file("config.json", "{}")
                          .file("corpus.parquet", std::string((64U << 20) + 1, 'x'))
                          .file("small.parquet", "x")
                          .end()
                          .bytes());
  EXPECT_THAT(result.files, ElementsAre("config.json", "small.parquet"));
  EXPECT_THAT(result.skipped, ElementsAre("corpus.parquet"));
}

TEST(Extract, SkipsMacOsLeftoversOfEveryType) {
  Sandbox sandbox;
  EXPECT_THAT(sandbox
                  .extract(TarBuilder()
                               .file("config.json", "{}")
                               .link("._l.json", '2', "/etc/passwd")
                               .end()
                               .bytes())
                  .skipped,
              ElementsAre("._l.json"));
}

TEST(ModelRoot, IsFoundOneDirectoryDown) {
  Sandbox sandbox;
  const ExtractedArchive result = sandbox.extract(TarBuilder()
                                                      .directory("my-model/")
                                                      .file("my-model/config.json", "{}")
                                                      .file("my-model/model.safetensors", "w")
                                                      .file("my-model/1_Pooling/config.json", "{}")
                                                      .file("notes.txt", "beside the model")
                                                      .end()
                                                      .bytes());
  EXPECT_EQ(result.model_root, sandbox.job() / "my-model");
  EXPECT_THAT(result.files,
              ElementsAre("1_Pooling/config.json", "config.json", "model.safetensors"));
  EXPECT_THAT(result.skipped, ElementsAre("notes.txt"));
}

TEST(ModelRoot, IsTheDirectoryWithWeightsAmongSeveral) {
  Sandbox sandbox;
  const ExtractedArchive result = sandbox.extract(TarBuilder()
                                                      .file("0_Transformer/config.json", "{}")
                                                      .file("0_Transformer/model.safetensors", "w")
                                                      .file("1_Pooling/config.json", "{}")
                                                      .end()
                                                      .bytes());
  EXPECT_EQ(result.model_root, sandbox.job() / "0_Transformer");
}

TEST(ModelRoot, IsRefusedWhenAmbiguous) {
  Sandbox sandbox;
  sandbox.expect_refused(TarBuilder()
                             .file("a/config.json", "{}")
                             .file("a/model.safetensors", "w")
                             .file("b/config.json", "{}")
                             .file("b/model.safetensors", "w")
                             .end()
                             .bytes(),
                         kCorruptCheckpoint,
                         "2 directories hold a config.json with weights: a, b");
}

TEST(ModelRoot, IsRefusedWhenMissingOrTooDeep) {
  Sandbox sandbox;
  sandbox.expect_refused(
      TarBuilder().file("notes.txt", "x").end().bytes(),
      kCorruptCheckpoint,
      "no config.json at the root or one directory below it, found 1 files such as \"notes.txt\"");
  Sandbox empty;
  empty.expect_refused(std::string(10240, '\0'), kCorruptCheckpoint, "found nothing");
  Sandbox deep;
  deep.expect_refused(TarBuilder().file("x/y/config.json", "{}").end().bytes(),
                      kCorruptCheckpoint,
                      "found \"x/y/config.json\"");
}

TEST(ModelRoot, SaysWhenOnlyOtherWeightsAreThere) {
  Sandbox sandbox;
  sandbox.expect_refused(
      TarBuilder().file("m/config.json", "{}").file("m/model.gguf", "w").end().bytes(),
      kUnsupportedModel,
      "found m/model.gguf but no *.safetensors or pytorch_model.bin; convert the model");
}

TEST(ModelRoot, RefusesTheOldLayoutOfSentenceTransformers) {
  Sandbox sandbox;
  sandbox.expect_refused(TarBuilder()
                             .file("modules.json", "[]")
                             .file("0_Transformer/config.json", "{}")
                             .file("0_Transformer/model.safetensors", "w")
                             .file("1_Pooling/config.json", "{}")
                             .end()
                             .bytes(),
                         kUnsupportedModel,
                         "modules.json lies beside 0_Transformer/config.json");
}

TEST(Extract, TakesPicklesWhereNoSafetensorsAre) {
  Sandbox sandbox;
  const ExtractedArchive result =
      sandbox.extract(TarBuilder()
                          .file("m/config.json", "{}")
                          .file("m/pytorch_model-00001-of-00002.bin", "1")
                          .file("m/pytorch_model-00002-of-00002.bin", "2")
                          .file("m/pytorch_model.bin.index.json", "{}")
                          .file("m/training_args.bin", "a program")
                          .file("m/checkpoint-5/pytorch_model.bin", "older")
                          .end()
                          .bytes());
  EXPECT_THAT(result.files,
              ElementsAre("config.json",
                          "pytorch_model-00001-of-00002.bin",
                          "pytorch_model-00002-of-00002.bin",
                          "pytorch_model.bin.index.json"));
  EXPECT_THAT(result.skipped,
              ElementsAre("m/checkpoint-5/pytorch_model.bin", "m/training_args.bin"));
}

TEST(Extract, DropsAPickleThatCameBeforeTheSafetensors) {
  Sandbox sandbox;
  const ExtractedArchive result = sandbox.extract(TarBuilder()
                                                      .file("pytorch_model.bin", "w")
                                                      .file("config.json", "{}")
                                                      .file("model.safetensors", "w")
                                                      .end()
                                                      .bytes());
  EXPECT_THAT(result.files, ElementsAre("config.json", "model.safetensors"));
  EXPECT_THAT(result.skipped, ElementsAre("pytorch_model.bin"));
  EXPECT_FALSE(fs::exists(sandbox.job() / "pytorch_model.bin"));
}

// 2_Dense is a part of the model, whatever lies deeper is not; nested one level or not.
TEST(Extract, TakesTheWeightsOfSentenceTransformersModules) {
  for (const std::string root : {"", "m/"}) {
    Sandbox sandbox;
    TarBuilder tar;
    for (const char* name : {"config.json",
                             "modules.json",
                             "model.safetensors",
                             "2_Dense/config.json",
                             "2_Dense/model.safetensors",
                             "3_Dense/pytorch_model.bin",
                             "4_Dense/model.safetensors",
                             "4_Dense/pytorch_model.bin",
                             "2_Dense/optimizer.bin",
                             "other/model.safetensors",
                             "2_Dense/old/model.safetensors"}) {
      tar.file(root + name, "{}");
    }
    const ExtractedArchive result = sandbox.extract(tar.end().bytes());
    EXPECT_THAT(result.files,
                ElementsAre("2_Dense/config.json",
                            "2_Dense/model.safetensors",
                            "3_Dense/pytorch_model.bin",
                            "4_Dense/model.safetensors",
                            "config.json",
                            "model.safetensors",
                            "modules.json"));
    EXPECT_EQ(result.skipped.size(), 4U);
  }
}

TEST(Extract, StopsWhenCancelled) {
  for (const std::string& archive : {flat_model(), gzip(flat_model())}) {
    Sandbox sandbox;
    sandbox.observer().cancel_after(1'500'000);
    EXPECT_EQ(sandbox.error_of(archive).code(), kCancelled);
    EXPECT_LT(fs::file_size(sandbox.job() / "config.json"), 10U);
  }
}

TEST(Extract, StopsWhenCancelledWhileSkipping) {
  Sandbox sandbox;
  sandbox.observer().cancel_after(0);
  EXPECT_EQ(
      sandbox.error_of(TarBuilder().file("x.bin", std::string(1000, 'x')).end().bytes()).code(),
      kCancelled);
}

class Resolution : public testing::TestWithParam<PathResolution> {};

TEST_P(Resolution, CreatesFilesBelowTheDirectory) {
  Sandbox sandbox;
  OutputDirectory directory(sandbox.job(), GetParam());
  {
    OutputFile file = directory.create_file({"a", "b", "f.txt"});
    file.reserve(3);
    file.write(0, std::as_bytes(std::span("abc", 3)));
  }
  directory.create_file({"a", "g.txt"});
  EXPECT_EQ(sandbox.read("a/b/f.txt"), "abc");
  EXPECT_TRUE(fs::exists(sandbox.job() / "a/g.txt"));
}

TEST_P(Resolution, NeverFollowsLinksOrReplacesFiles) {
  Sandbox sandbox;
  fs::create_symlink("../outside", sandbox.job() / "link");
  fs::create_symlink("../outside/new", sandbox.job() / "dangling");
  Sandbox::write(sandbox.job() / "file", "old");
  OutputDirectory directory(sandbox.job(), GetParam());
  for (const std::vector<std::string>& components :
       std::vector<std::vector<std::string>>{{"link", "evil"},
                                             {"link", "d", "evil"},
                                             {"link"},
                                             {"dangling"},
                                             {"file"},
                                             {"file", "x"},
                                             {"file", "x", "y"}}) {
    try {
      directory.create_file(components);
      ADD_FAILURE() << components.front() << " was created";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kCorruptArchive) << error.message();
    }
  }
  EXPECT_TRUE(fs::is_empty(sandbox.top() / "outside"));
  EXPECT_EQ(sandbox.read("file"), "old");
}

INSTANTIATE_TEST_SUITE_P(OutputDirectory,
                         Resolution,
                         testing::Values(PathResolution::kAuto, PathResolution::kWalk));

TEST(OpenDirectory, ListsFilesAndFollowsLinksToThem) {
  Sandbox sandbox;
  fs::create_directory(sandbox.top() / "blobs");
  Sandbox::write(sandbox.top() / "blobs/1", "w");
  const fs::path model = sandbox.job();
  Sandbox::write(model / "config.json", "{}");
  fs::create_symlink("../blobs/1", model / "model.safetensors");
  fs::create_symlink("nowhere", model / "broken.json");
  fs::create_symlink(".", model / "loop");
  Sandbox::write(model / "pytorch_model.bin", "w");
  Sandbox::write(model / ".gitattributes", "hidden");
  fs::create_directory(model / "onnx");
  Sandbox::write(model / "onnx/config.json", "{}");
  fs::create_directory(model / "1_Pooling");
  Sandbox::write(model / "1_Pooling/config.json", "{}");
  const ExtractedArchive result = open_directory(model);
  EXPECT_EQ(result.model_root, model);
  EXPECT_THAT(result.files,
              ElementsAre("1_Pooling/config.json", "config.json", "model.safetensors"));
  EXPECT_THAT(result.skipped, ElementsAre("pytorch_model.bin"));
  EXPECT_EQ(result.bytes, 0U);
}

TEST(OpenDirectory, RefusesWhatIsNoModelDirectory) {
  Sandbox sandbox;
  const auto code_of = [](const fs::path& path) {
    try {
      open_directory(path);
    } catch (const Error& error) {
      return error.code();
    }
    return kInternal;
  };
  EXPECT_EQ(code_of(sandbox.top() / "absent"), kSourceNotFound);
  EXPECT_EQ(code_of(sandbox.top() / "canary"), kSourceNotFound);
  EXPECT_EQ(code_of(sandbox.job()), kCorruptCheckpoint);
}

TEST(OpenDirectory, ReadsAFixture) {
  const fs::path directory = tests_dir() / "fixtures/bert-fill-mask/checkpoint";
  EXPECT_THAT(
      open_directory(directory).files,
      testing::IsSupersetOf({"config.json", "model.safetensors", "tokenizer.json", "vocab.txt"}));
}

}  // namespace
}  // namespace onnxferry
