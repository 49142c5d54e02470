#include "pipeline/output/publish.h"

#include <functional>
#include <map>

#include <gmock/gmock.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

class QuietObserver : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t /*done*/, std::uint64_t /*total*/) override {}
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view /*reason*/) override {}
  [[nodiscard]] bool is_cancelled() const override { return cancelled && cancelled(); }

  std::function<bool()> cancelled;
};

/// Objects in memory, and what was asked for in which order. What comes in one put_files() may
/// travel side by side.
class RecordingStore : public ObjectStore {
 public:
  std::optional<ObjectInfo> head(const std::string& /*key*/, StageScope& /*scope*/) override {
    return std::nullopt;
  }
  ObjectInfo download(const std::string& /*key*/,
                      const fs::path& /*to*/,
                      StageScope& /*scope*/) override {
    return {};
  }
  std::optional<std::string> get(const std::string& key,
                                 std::uint64_t /*max_bytes*/,
                                 StageScope& /*scope*/) override {
    const auto found = objects.find(key);
    return found == objects.end() ? std::nullopt : std::optional(found->second);
  }
  void put_file(const std::string& key,
                const fs::path& /*from*/,
                std::string_view /*content_type*/,
                StageScope& /*scope*/) override {
    if (key == fails_at) {
      throw Error(ErrorCode::kUnavailable, "the store is away");
    }
    objects[key] = "file";
  }
  void put_files(std::span<const FileUpload> files, StageScope& scope) override {
    std::vector<std::string> names;
    for (const FileUpload& file : files) {
      names.push_back(file.key);
    }
    steps.push_back(names);
    ObjectStore::put_files(files, scope);
  }
  PutResult put(const std::string& key,
                std::string_view bytes,
                std::string_view /*content_type*/,
                PutCondition condition,
                StageScope& /*scope*/) override {
    steps.push_back({key});
    if (condition == PutCondition::kIfAbsent && objects.contains(key)) {
      return PutResult::kExists;
    }
    objects[key] = bytes;
    return PutResult::kWritten;
  }
  void remove(const std::string& key, StageScope& scope) override {
    scope.check_cancelled();
    steps.push_back({"remove " + key});
    objects.erase(key);
  }
  std::vector<std::string> list(const std::string& /*prefix*/, StageScope& /*scope*/) override {
    return {};
  }
  void abort_stale_uploads(const std::string& key, StageScope& /*scope*/) override {
    steps.push_back({"abort " + key});
  }

  std::map<std::string, std::string> objects;
  std::vector<std::vector<std::string>> steps;
  std::string fails_at;
};

class PublishTest : public testing::Test {
 protected:
  PublishTest() {
    for (const auto& [name, bytes] :
         std::vector<std::pair<const char*, std::uint64_t>>{{"model.onnx_data", 6U << 20U},
                                                            {"model.onnx", 100},
                                                            {"config.json", 10},
                                                            {"1_Pooling/config.json", 10},
                                                            {"tokenizer.json", 10}}) {
      report_.files.push_back({name, bytes, std::string(64, 'a'), "sidecar"});
    }
  }

  void publish() { publisher_.publish("/nowhere", source_, report_, scope_); }

  RecordingStore store_;
  Publisher publisher_{
      store_, ObjectUri{.bucket = {}, .key = "out/"}, ExportOptions{.request_id = "r"}};
  SourceIdentity source_;
  ExportReport report_;
  QuietObserver observer_;
  StageScope scope_{Stage::kUpload, observer_};
};

TEST_F(PublishTest, ConfigComesAfterAllOtherFilesAndTheManifestLast) {
  publish();
  EXPECT_THAT(store_.steps,
              ElementsAre(ElementsAre("out/.onnxferry-claim"),
                          ElementsAre("abort out/model.onnx_data"),
                          UnorderedElementsAre("out/model.onnx_data",
                                               "out/model.onnx",
                                               "out/1_Pooling/config.json",
                                               "out/tokenizer.json"),
                          ElementsAre("out/config.json"),
                          ElementsAre("out/SHA256SUMS"),
                          ElementsAre("out/export_manifest.json"),
                          ElementsAre("remove out/.onnxferry-claim")));
}

TEST_F(PublishTest, JobThatIsCancelledRightAfterItsManifestLeavesNoClaim) {
  observer_.cancelled = [&] { return store_.objects.contains("out/export_manifest.json"); };
  EXPECT_THROW(publish(), Error);
  EXPECT_TRUE(store_.objects.contains("out/export_manifest.json"));
  EXPECT_FALSE(store_.objects.contains("out/.onnxferry-claim"));
}

TEST_F(PublishTest, FileThatFailsLeavesNeitherConfigNorManifestNorClaim) {
  store_.fails_at = "out/tokenizer.json";
  EXPECT_THROW(publish(), Error);
  for (const char* const key :
       {"out/config.json", "out/SHA256SUMS", "out/export_manifest.json", "out/.onnxferry-claim"}) {
    EXPECT_FALSE(store_.objects.contains(key)) << key;
  }
}

}  // namespace
}  // namespace onnxferry
