#include "pipeline/run.h"

#include <functional>

#include <nlohmann/json.hpp>

#include "pipeline/output/sha256.h"
#include "pipeline/storage/store_config.h"
#include "pipeline/weights_cache.h"
#include "tests/support/fixture.h"
#include "tests/unit/archive/tar_builder.h"

namespace onnxferry {
namespace {

using ::testing::Contains;
using testing::expect_error;
using ::testing::HasSubstr;
using testing::read_text;
using testing::write_text;

class RunExport : public ::testing::Test {
 protected:
  ExportReport run(const ExportOptions& options) {
    const auto scratch = temp_.path() / ("scratch" + std::to_string(++runs_));
    std::filesystem::create_directory(scratch);
    Workspace workspace{
        .scratch = scratch, .limits = {}, .runtime = nullptr, .cache = cache_.get()};
    return run_export(options, *stores_, workspace, observer_);
  }

  /// A fixture's checkpoint as an archive.
  std::filesystem::path archive(const std::string& name) {
    const auto path = temp_.path() / (name + ".tar");
    const auto root = testing::checkpoint_dir(name);
    TarBuilder builder;
    for (const auto& entry : std::filesystem::directory_iterator(root)) {
      builder.file(entry.path().filename().string(), read_text(entry.path()));
    }
    write_text(path, builder.end().bytes());
    return path;
  }

  ExportOptions options(const std::string& request_id, const std::filesystem::path& source) {
    ExportOptions result;
    result.request_id = request_id;
    result.source_uri = source.string();
    result.output_uri = "file://" + (temp_.path() / "out/").string();
    result.verify = VerifyLevel::kStructure;
    result.export_timestamp = "2026-01-02T03:04:05Z";
    return result;
  }

  [[nodiscard]] std::filesystem::path out(std::string_view name) const {
    return temp_.path() / "out" / name;
  }

  struct Observer : testing::NullObserver {
    void stage_started(Stage stage) override {
      if (on_stage) {
        on_stage(stage);
      }
    }
    std::function<void(Stage)> on_stage;
  };
  Observer observer_;
  testing::TempDir temp_;
  std::unique_ptr<WeightsCache> cache_;
  std::unique_ptr<Stores> stores_ = make_stores({}, [](std::string_view) { return std::nullopt; });
  int runs_ = 0;
};

TEST_F(RunExport, PublishesFilesChecksumsAndManifest) {
  const ExportReport report = run(options("r1", testing::checkpoint_dir("qwen2")));
  EXPECT_EQ(report.task, "text-generation-with-past");
  EXPECT_EQ(report.model_type, "qwen2");
  EXPECT_EQ(report.stages.size(), 5U);
  const std::string sums = read_text(out("SHA256SUMS"));
  for (const FileReport& file : report.files) {
    ASSERT_TRUE(std::filesystem::exists(out(file.name))) << file.name;
    EXPECT_EQ(file.sha256, sha256_hex(read_text(out(file.name)))) << file.name;
    EXPECT_EQ(file.bytes, std::filesystem::file_size(out(file.name))) << file.name;
    if (file.kind != "checksums") {
      EXPECT_THAT(sums, HasSubstr(file.sha256 + "  " + file.name + "\n"));
    }
  }
  EXPECT_EQ(report.manifest_sha256, sha256_hex(read_text(out("export_manifest.json"))));
  EXPECT_FALSE(std::filesystem::exists(out(".onnxferry-claim")));
  EXPECT_EQ(read_text(out("tokenizer.json")),
            read_text(testing::checkpoint_dir("qwen2") / "tokenizer.json"));
}

TEST_F(RunExport, SameRequestOrSameKeyIsAnsweredFromTheManifest) {
  const ExportReport first = run(options("r1", testing::checkpoint_dir("qwen2")));
  for (const auto* const id : {"r1", "another"}) {
    const ExportReport again = run(options(id, testing::checkpoint_dir("qwen2")));
    EXPECT_TRUE(again.answered_from_manifest);
    EXPECT_EQ(again.manifest_sha256, first.manifest_sha256);
    EXPECT_EQ(again.files.size(), first.files.size());
    EXPECT_EQ(again.inputs.size(), first.inputs.size());
    EXPECT_EQ(again.parameters, first.parameters);
  }
}

TEST_F(RunExport, AnotherExportAtTheDestinationIsAConflict) {
  run(options("r1", testing::checkpoint_dir("qwen2")));
  expect_error(ErrorCode::kDestinationConflict, "a manifest of another export (request r1)", [&] {
    run(options("r2", testing::checkpoint_dir("bert-fill-mask")));
  });
}

TEST_F(RunExport, OverwriteReplacesAndLeavesNothingOfTheOldExport) {
  run(options("r1", testing::checkpoint_dir("qwen2")));
  ASSERT_TRUE(std::filesystem::exists(out("merges.txt")));
  ExportOptions overwrite = options("r2", testing::checkpoint_dir("bert-fill-mask"));
  overwrite.overwrite = true;
  const ExportReport report = run(overwrite);
  EXPECT_EQ(report.model_type, "bert");
  EXPECT_FALSE(std::filesystem::exists(out("merges.txt")));
  EXPECT_TRUE(std::filesystem::exists(out("vocab.txt")));
}

TEST_F(RunExport, AForeignClaimIsAConflictAndAnOwnOneIsTakenUp) {
  std::filesystem::create_directories(out(""));
  write_text(out(".onnxferry-claim"), R"({"request_id": "r9", "export_key": "k"})");
  expect_error(ErrorCode::kDestinationConflict, "the claim of another export (request r9)", [&] {
    run(options("r1", testing::checkpoint_dir("qwen2")));
  });
  EXPECT_TRUE(std::filesystem::exists(out(".onnxferry-claim")));
  EXPECT_FALSE(run(options("r9", testing::checkpoint_dir("qwen2"))).answered_from_manifest);
}

// Two records of one request at the same time: the last to write must write what the manifest of
// the first says.
TEST_F(RunExport, AClaimOfTheSameRequestFromAnotherRecordGivesItsTimestamp) {
  run(options("r1", testing::checkpoint_dir("qwen2")));
  const auto manifest = nlohmann::json::parse(read_text(out("export_manifest.json")));
  std::filesystem::remove_all(out(""));
  std::filesystem::create_directories(out(""));
  const nlohmann::json claim = {{"request_id", "r1"},
                                {"export_key", manifest.at("export_key")},
                                {"export_timestamp", "2026-01-02T03:04:00Z"}};
  write_text(out(".onnxferry-claim"), claim.dump());
  run(options("r1", testing::checkpoint_dir("qwen2")));
  const std::string metadata = read_text(out("export_metadata.json"));
  EXPECT_THAT(metadata, HasSubstr("2026-01-02T03:04:00Z"));
  EXPECT_THAT(read_text(out("SHA256SUMS")), HasSubstr(sha256_hex(metadata)));
  EXPECT_THAT(read_text(out("export_manifest.json")), HasSubstr(sha256_hex(metadata)));
}

TEST_F(RunExport, AnotherExportUnderTheSameRequestIdIsAConflict) {
  std::filesystem::create_directories(out(""));
  write_text(
      out(".onnxferry-claim"),
      R"({"request_id": "r1", "export_key": "k", "export_timestamp": "2026-01-01T00:00:00Z"})");
  expect_error(ErrorCode::kDestinationConflict, "the claim of another export (request r1)", [&] {
    run(options("r1", testing::checkpoint_dir("qwen2")));
  });
}

TEST_F(RunExport, WhatWasFinishedMeanwhileIsTheAnswer) {
  const ExportReport first = run(options("r1", testing::checkpoint_dir("qwen2")));
  const auto finished = temp_.path() / "finished";
  std::filesystem::rename(out(""), finished);
  observer_.on_stage = [&](Stage stage) {
    if (stage == Stage::kUpload) {
      std::filesystem::copy(finished, out(""), std::filesystem::copy_options::recursive);
    }
  };
  ExportOptions later = options("r1", testing::checkpoint_dir("qwen2"));
  later.export_timestamp = "2026-01-02T03:05:00Z";
  const ExportReport second = run(later);
  EXPECT_TRUE(second.answered_from_manifest);
  EXPECT_EQ(second.manifest_sha256, first.manifest_sha256);
  EXPECT_EQ(second.stages.size(), 5U);
  EXPECT_EQ(read_text(out("export_metadata.json")), read_text(finished / "export_metadata.json"));
  EXPECT_FALSE(std::filesystem::exists(out(".onnxferry-claim")));
}

TEST_F(RunExport, TheClaimOfAnAttemptThatDiedAfterItsManifestGoes) {
  run(options("r1", testing::checkpoint_dir("qwen2")));
  for (const auto* const owner : {"r1", "r2"}) {
    write_text(out(".onnxferry-claim"), nlohmann::json{{"request_id", owner}}.dump());
    EXPECT_TRUE(run(options("r1", testing::checkpoint_dir("qwen2"))).answered_from_manifest);
    EXPECT_EQ(std::filesystem::exists(out(".onnxferry-claim")), std::string_view(owner) == "r2");
  }
}

TEST_F(RunExport, SameInputSameBytes) {
  const std::string first = run(options("r1", testing::checkpoint_dir("qwen2"))).manifest_sha256;
  std::filesystem::remove_all(out(""));
  EXPECT_EQ(run(options("r1", testing::checkpoint_dir("qwen2"))).manifest_sha256, first);
}

TEST_F(RunExport, KeptWeightsSpareTheNextJobOfTheSameObjectTheUnpacking) {
  cache_ = std::make_unique<WeightsCache>(temp_.path() / "cache", 1ULL << 30, "");
  const auto source = archive("qwen2");
  const auto unpacked_bytes = [](const ExportReport& report) { return report.stages.at(1).bytes; };
  const ExportReport first = run(options("r1", source));
  EXPECT_GT(unpacked_bytes(first), 0U);
  std::filesystem::remove_all(out(""));
  const ExportReport second = run(options("r1", source));
  EXPECT_EQ(unpacked_bytes(second), 0U);
  EXPECT_EQ(second.manifest_sha256, first.manifest_sha256);

  std::filesystem::remove_all(out(""));
  ExportOptions discard = options("r1", source);
  discard.keep_weights = false;
  EXPECT_GT(unpacked_bytes(run(discard)), 0U) << "without the permission nothing is taken from it";
  std::filesystem::remove_all(out(""));
  EXPECT_GT(unpacked_bytes(run(options("r1", source))), 0U) << "and what was there is gone";
}

TEST_F(RunExport, ErrorsCarryTheirStage) {
  const auto stage_of = [&](const ExportOptions& failing) -> std::string {
    try {
      run(failing);
    } catch (const Error& error) {
      return error.stage() ? std::string(to_string(*error.stage())) : "none";
    }
    return "no error";
  };
  EXPECT_EQ(stage_of(options("r1", temp_.path() / "missing.tar")), "download");
  write_text(temp_.path() / "garbage.tar", std::string(2000, 'x'));
  EXPECT_EQ(stage_of(options("r1", temp_.path() / "garbage.tar")), "extract");
  const auto copy = testing::copy_checkpoint("qwen2", temp_);
  write_text(copy / "config.json", R"({"model_type": "foo"})");
  EXPECT_EQ(stage_of(options("r1", copy)), "export");
}

TEST_F(RunExport, NoConfigWarnsThatOptimumWillNotLoadIt) {
  ExportOptions bare = options("r1", testing::checkpoint_dir("qwen2"));
  bare.no_config = true;
  const ExportReport report = run(bare);
  EXPECT_THAT(report.warnings, Contains(::testing::Field(&Warning::code, "NO_CONFIG")));
  EXPECT_FALSE(std::filesystem::exists(out("config.json")));
}

TEST_F(RunExport, HalfPrecisionDeclaresFloat32Ports) {
  ExportOptions half = options("r1", testing::checkpoint_dir("qwen2"));
  half.dtype = FloatDtype::kFp16;
  for (const ValueReport& port : run(half).outputs) {
    EXPECT_EQ(port.dtype, "float");
  }
}

}  // namespace
}  // namespace onnxferry
