#include "pipeline/output/plan.h"

#include <onnx/onnx_pb.h>

#include "pipeline/architectures/registry.h"
#include "pipeline/output/layout.h"
#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

using testing::checkpoint_dir;

class PlanFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto directory = checkpoint_dir("qwen2");
    const ModelConfig config = ModelConfig::load(directory);
    tensors_ = std::make_unique<WeightFiles>(WeightFiles::open(directory));
    model_ = std::move(find_architecture(config)
                           .build({config, *tensors_, "text-generation-with-past", 17})
                           .front()
                           .model);
  }

  void write(std::uint64_t max_inline_bytes) {
    StageScope scope(Stage::kExport, observer_);
    reports_ = write_files(
        plan_files(model_, "model.onnx", max_inline_bytes), *tensors_, temp_.path(), scope);
  }

  onnx::ModelProto parse() {
    onnx::ModelProto proto;
    EXPECT_TRUE(proto.ParseFromString(testing::read_text(temp_.path() / "model.onnx")));
    return proto;
  }

  testing::NullObserver observer_;
  testing::TempDir temp_;
  std::unique_ptr<WeightFiles> tensors_;
  GraphModel model_;
  std::vector<FileReport> reports_;
};

TEST_F(PlanFiles, InlineFileIsAWholeModel) {
  write(kMaxInlineBytes);
  ASSERT_EQ(reports_.size(), 1U);
  const onnx::ModelProto proto = parse();
  EXPECT_EQ(proto.graph().node_size(), model_.proto->graph().node_size());
  ASSERT_EQ(static_cast<std::size_t>(proto.graph().initializer_size()), model_.recipes.size());
  for (const auto& initializer : proto.graph().initializer()) {
    EXPECT_EQ(initializer.raw_data().size(), byte_size(model_.recipes.at(initializer.name())))
        << initializer.name();
  }
  EXPECT_EQ(reports_.front().bytes, std::filesystem::file_size(temp_.path() / "model.onnx"));
}

TEST_F(PlanFiles, BigModelsPutWeightsBesideTheGraph) {
  write(1000);
  ASSERT_EQ(reports_.size(), 2U);
  EXPECT_EQ(reports_[1].name, "model.onnx_data");
  EXPECT_EQ(reports_[1].kind, "external_data");
  const std::uint64_t data_bytes = std::filesystem::file_size(temp_.path() / "model.onnx_data");
  std::uint64_t external = 0;
  const onnx::ModelProto proto = parse();
  for (const auto& initializer : proto.graph().initializer()) {
    const std::uint64_t bytes = byte_size(model_.recipes.at(initializer.name()));
    if (initializer.data_location() != onnx::TensorProto::EXTERNAL) {
      EXPECT_TRUE(bytes < 1024 || initializer.data_type() == onnx::TensorProto::INT64)
          << initializer.name();
      EXPECT_EQ(initializer.raw_data().size(), bytes);
      continue;
    }
    ++external;
    EXPECT_EQ(initializer.external_data(0).value(), "model.onnx_data");
    const std::uint64_t offset = std::stoull(initializer.external_data(1).value());
    EXPECT_EQ(offset % 4096, 0U);
    EXPECT_EQ(std::stoull(initializer.external_data(2).value()), bytes);
    EXPECT_LE(offset + bytes, data_bytes);
  }
  EXPECT_GT(external, 10U);
}

TEST_F(PlanFiles, WeightsFollowTheCheckpointsOrder) {
  write(kMaxInlineBytes);
  std::uint64_t last = 0;
  const onnx::ModelProto proto = parse();
  for (const auto& initializer : proto.graph().initializer()) {
    const auto tensors = sources(model_.recipes.at(initializer.name()));
    if (!tensors.empty()) {
      EXPECT_GE(tensors.front()->offset, last) << initializer.name();
      last = tensors.front()->offset;
    }
  }
}

TEST_F(PlanFiles, TwiceTheSameBytes) {
  write(kMaxInlineBytes);
  const std::string first = reports_.front().sha256;
  std::filesystem::remove(temp_.path() / "model.onnx");
  write(kMaxInlineBytes);
  EXPECT_EQ(reports_.front().sha256, first);
}

}  // namespace
}  // namespace onnxferry
