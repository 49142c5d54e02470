#include "pipeline/passes/float16.h"

#include <onnx/onnx_pb.h>

#include "pipeline/architectures/registry.h"
#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

using testing::checkpoint_dir;

class HalfGraph : public ::testing::Test {
 protected:
  GraphModel build(const char* fixture, const char* task) {
    const auto directory = checkpoint_dir(fixture);
    const ModelConfig config = ModelConfig::load(directory);
    tensors_ = std::make_unique<WeightFiles>(WeightFiles::open(directory));
    auto graphs = find_architecture(config).build({config, *tensors_, task, 17});
    convert_to_float16(graphs.front().model);
    return std::move(graphs.front().model);
  }

 private:
  std::unique_ptr<WeightFiles> tensors_;
};

class Float16 : public HalfGraph,
                public ::testing::WithParamInterface<std::pair<const char*, const char*>> {
 protected:
  GraphModel build() { return HalfGraph::build(GetParam().first, GetParam().second); }
};

TEST_P(Float16, LeavesNoFloat32Initializer) {
  const GraphModel model = build();
  EXPECT_GT(model.recipes.size(), 10U);
  for (const auto& [name, recipe] : model.recipes) {
    EXPECT_NE(recipe->dtype, Dtype::kFloat32) << name;
  }
}

TEST_P(Float16, GraphInputsAndOutputsStayFloat32) {
  const GraphModel model = build();
  for (const auto* const ports : {&model.proto->graph().input(), &model.proto->graph().output()}) {
    for (const auto& port : *ports) {
      EXPECT_NE(port.type().tensor_type().elem_type(), onnx::TensorProto::FLOAT16) << port.name();
    }
  }
}

TEST_P(Float16, IsAValidGraph) {
  check_graph(build());
}

TEST_P(Float16, StatisticsAndAnglesStayFloat32) {
  const GraphModel model = build();
  for (const auto& node : model.proto->graph().node()) {
    if (node.op_type() == "ReduceMean" || node.op_type() == "Cos" || node.op_type() == "Sin") {
      EXPECT_EQ(model.dtype(node.output(0)), Dtype::kFloat32) << node.name();
    }
    if (node.op_type() == "MatMul") {
      EXPECT_EQ(model.dtype(node.output(0)), Dtype::kFloat16) << node.name();
    }
  }
}

// Half a unit in the last place of a router's weights or correction sends tokens elsewhere.
TEST_F(HalfGraph, KeepsARoutersWeightsInFloat32) {
  const GraphModel model = build("deepseek_v3", "text-generation-with-past");
  check_graph(model);
  const auto dtype = [&](const char* name) { return model.recipes.at(name)->dtype; };
  EXPECT_EQ(dtype("model.layers.1.mlp.gate.weight_t"), Dtype::kFloat32);
  EXPECT_EQ(dtype("model.layers.1.mlp.gate.e_score_correction_bias"), Dtype::kFloat32);
  EXPECT_EQ(dtype("model.layers.1.mlp.experts.0.gate_proj.weight_t"), Dtype::kFloat16);
  EXPECT_EQ(dtype("model.layers.1.input_layernorm.weight"), Dtype::kFloat16);
}

// BigBird's question tokens score a million less, which half precision does not have.
TEST_F(HalfGraph, OutputsOfFloat32NodesAreNotRounded) {
  const GraphModel model = build("big_bird-question-answering", "question-answering");
  check_graph(model);
  int made = 0;
  for (const auto& node : model.proto->graph().node()) {
    if (node.output(0) == "start_logits" || node.output(0) == "end_logits") {
      EXPECT_EQ(node.op_type(), "Squeeze");
      ++made;
    }
  }
  EXPECT_EQ(made, 2);
}

INSTANTIATE_TEST_SUITE_P(
    Models,
    Float16,
    ::testing::Values(std::pair("qwen2", "text-generation-with-past"),
                      std::pair("qwen2-rope-dynamic", "text-generation-with-past"),
                      std::pair("qwen2-text-classification", "text-classification"),
                      std::pair("bert-fill-mask", "fill-mask"),
                      std::pair("distilbert-question-answering", "question-answering")));

}  // namespace
}  // namespace onnxferry
