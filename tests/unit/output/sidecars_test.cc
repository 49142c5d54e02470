#include "pipeline/output/sidecars.h"

#include <csignal>

#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::Not;
using testing::read_text;
using testing::write_text;

class Sidecars : public ::testing::Test {
 protected:
  std::vector<FileReport> copy(std::vector<std::string> files, bool is_generating = false) {
    StageScope scope(Stage::kExport, observer_);
    return copy_sidecars({.model_root = from_.path(),
                          .files = std::move(files),
                          .weight_files = {"pytorch_model.bin"},
                          .is_generating = is_generating},
                         to_.path(),
                         scope);
  }

  testing::NullObserver observer_;
  testing::TempDir from_;
  testing::TempDir to_;
};

TEST_F(Sidecars, CopiesEverythingButWeightsByteForByte) {
  std::filesystem::create_directory(from_.path() / "1_Pooling");
  const std::string odd = "{\"a\":1}\r\n\xEF\xBB\xBF";
  for (const auto* const name : {"config.json",
                                 "tokenizer.json",
                                 "label2id.json",
                                 "1_Pooling/config.json",
                                 "model.safetensors",
                                 "model.safetensors.index.json",
                                 "pytorch_model.bin",
                                 "export_manifest.json"}) {
    write_text(from_.path() / name, odd);
  }
  const auto reports = copy({"1_Pooling/config.json",
                             "config.json",
                             "export_manifest.json",
                             "label2id.json",
                             "model.safetensors",
                             "model.safetensors.index.json",
                             "pytorch_model.bin",
                             "tokenizer.json"});
  std::vector<std::string> names;
  for (const FileReport& report : reports) {
    names.push_back(report.name);
    EXPECT_EQ(read_text(to_.path() / report.name), odd);
  }
  EXPECT_THAT(
      names,
      ElementsAre("1_Pooling/config.json", "label2id.json", "tokenizer.json", "config.json"));
}

// sentence-transformers would not load a directory whose Dense has no weights; a pickle is not
// handed on.
TEST_F(Sidecars, KeepsTheSmallWeightsOfModulesButNoPickle) {
  const std::vector<std::string> files = {"2_Dense/config.json",
                                          "2_Dense/model.safetensors",
                                          "3_Dense/pytorch_model.bin",
                                          "config.json",
                                          "modules.json"};
  for (const std::string& name : files) {
    std::filesystem::create_directories((from_.path() / name).parent_path());
    write_text(from_.path() / name, name);
  }
  std::vector<std::string> names;
  for (const FileReport& report : copy(files)) {
    names.push_back(report.name);
  }
  EXPECT_THAT(
      names,
      ElementsAre(
          "2_Dense/config.json", "2_Dense/model.safetensors", "modules.json", "config.json"));
}

TEST_F(Sidecars, SynthesizesGenerationConfigOnlyWhereItLacks) {
  write_text(
      from_.path() / "config.json",
      R"({"eos_token_id": 2, "bos_token_id": null, "hidden_size": 8, "transformers_version": "4.57.6"})");
  copy({"config.json"}, /*is_generating=*/true);
  const auto json = nlohmann::json::parse(read_text(to_.path() / "generation_config.json"));
  EXPECT_EQ(
      json,
      nlohmann::json::parse(
          R"({"_from_model_config": true, "eos_token_id": 2, "transformers_version": "4.57.6"})"));

  write_text(from_.path() / "generation_config.json", "{\"top_k\": 3}");
  copy({"config.json", "generation_config.json"}, /*is_generating=*/true);
  EXPECT_EQ(read_text(to_.path() / "generation_config.json"), "{\"top_k\": 3}");
}

TEST_F(Sidecars, AnUnreadableFileFailsTheJob) {
  write_text(from_.path() / "config.json", "{}");
  testing::expect_error(ErrorCode::kConfigCopyFailed, "tokenizer.json could not be copied", [&] {
    copy({"config.json", "tokenizer.json"});
  });
}

TEST_F(Sidecars, AFullDiskIsNoFaultOfTheSource) {
  write_text(from_.path() / "config.json", "{\"hidden_size\": 8}");
  write_text(from_.path() / "notes.txt", std::string(100000, 'x'));  // full on the way
  ExportOptions options;
  options.model_id = "org/model";
  // As a full disk would: no file may grow past 10 bytes.
  const auto previous_action = std::signal(SIGXFSZ, SIG_IGN);
  rlimit previous{};
  getrlimit(RLIMIT_FSIZE, &previous);
  const rlimit limit{10, previous.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  testing::expect_error(ErrorCode::kResourceExhausted, "the disk is full: config.json", [&] {
    copy({"config.json"});
  });
  testing::expect_error(
      ErrorCode::kResourceExhausted, "the disk is full: notes.txt", [&] { copy({"notes.txt"}); });
  testing::expect_error(ErrorCode::kResourceExhausted,
                        "the disk is full: export_metadata.json",
                        [&] { write_export_metadata(options, "bert", "fill-mask", to_.path()); });
  setrlimit(RLIMIT_FSIZE, &previous);
  (void)std::signal(SIGXFSZ, previous_action);
}

TEST_F(Sidecars, MetadataCarriesTheFiveKnownKeysFirst) {
  ExportOptions options;
  options.model_id = "org/model";
  options.export_timestamp = "2026-01-02T03:04:05Z";
  write_export_metadata(options, "bert", "fill-mask", to_.path());
  const auto json = nlohmann::ordered_json::parse(read_text(to_.path() / "export_metadata.json"));
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) {
    keys.push_back(key);
  }
  keys.resize(5);
  EXPECT_THAT(keys,
              ElementsAre("source_model",
                          "export_strategy",
                          "clean_onnx",
                          "export_timestamp",
                          "modelexport_version"));
  EXPECT_EQ(json["source_model"], "org/model");
  EXPECT_EQ(json["export_timestamp"], "2026-01-02T03:04:05Z");
}

}  // namespace
}  // namespace onnxferry
