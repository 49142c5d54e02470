// What mixtures of experts refuse, and flags that no fixture has.

#include <onnx/onnx_pb.h>

#include "pipeline/architectures/registry.h"
#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

using testing::checkpoint_dir;
using testing::expect_error;

/// Builds a fixture with `from` in its config.json replaced.
std::vector<BuiltGraph> build_changed(const std::string& fixture,
                                      std::string_view from,
                                      std::string_view to) {
  const auto directory = checkpoint_dir(fixture);
  std::string json = testing::read_text(directory / "config.json");
  const auto at = json.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  json.replace(at, from.size(), to);
  const ModelConfig config = ModelConfig::parse(json);
  const WeightFiles tensors = WeightFiles::open(directory);
  auto graphs = find_architecture(config).build({config, tensors, "text-generation-with-past", 17});
  check_graph(graphs.front().model);
  return graphs;
}

struct Refusal {
  std::string fixture;
  std::string from;
  std::string to;
  std::string message;
};

class MixtureRefuses : public ::testing::TestWithParam<Refusal> {};

TEST_P(MixtureRefuses, ByName) {
  const Refusal& refusal = GetParam();
  expect_error(ErrorCode::kUnsupportedModel, refusal.message, [&] {
    build_changed(refusal.fixture, refusal.from, refusal.to);
  });
}

INSTANTIATE_TEST_SUITE_P(
    Configs,
    MixtureRefuses,
    ::testing::Values(Refusal{"mixtral",
                              R"("num_experts_per_tok": 2)",
                              R"("num_experts_per_tok": 5)",
                              "num_experts_per_tok is 5; there are 4 experts to choose from"},
                      Refusal{"gpt_oss",
                              R"("model_type")",
                              R"("quantization_config": {"quant_method": "bitnet"}, "model_type")",
                              "only MXFP4 ones are read"},
                      Refusal{"gpt_oss",
                              R"("model_type")",
                              R"("quantization_config": {"quant_method": "mxfp4"}, "model_type")",
                              "MXFP4 has blocks of 32, which do not divide rows of 37"},
                      Refusal{"gpt_oss",
                              R"("model_type")",
                              R"("swiglu_limit": 5.0, "model_type")",
                              "swiglu_limit is 5.0"},
                      Refusal{"deepseek_v3",
                              R"("model_type")",
                              R"("quantization_config": {"quant_method": "fp8"}, "model_type")",
                              "float8 blocks with scales are not read"},
                      Refusal{"deepseek_v3",
                              R"("model_type")",
                              R"("scoring_func": "softmax", "model_type")",
                              R"(scoring_func is "softmax")"},
                      Refusal{"deepseek_v3", R"("n_group": 4)", R"("n_group": 3)", "n_group is 3"},
                      Refusal{"deepseek_v3",
                              R"("num_key_value_heads": 4)",
                              R"("num_key_value_heads": 2)",
                              "num_key_value_heads is 2"},
                      Refusal{"deepseek_v2",
                              R"("topk_method": "group_limited_greedy")",
                              R"("topk_method": "noaux_tc")",
                              R"(topk_method is "noaux_tc")"},
                      Refusal{"phimoe",
                              R"("num_experts_per_tok": 2)",
                              R"("num_experts_per_tok": 1)",
                              "num_experts_per_tok is 1"},
                      Refusal{"phimoe-longrope",
                              R"("long_mscale": 1.2)",
                              R"("long_mscale": 1.3)",
                              "rope_scaling.long_mscale is 1.3"}));

int count(const GraphModel& model, std::string_view op_type) {
  int found = 0;
  for (const auto& node : model.proto->graph().node()) {
    found += node.op_type() == op_type ? 1 : 0;
  }
  return found;
}

// Every group wins: nothing is left out and nothing is spent on groups.
TEST(Mixture, AllGroupsChosenNeedNoMask) {
  const auto some = build_changed("deepseek_v3", R"("topk_group": 2)", R"("topk_group": 2)");
  const auto all = build_changed("deepseek_v3", R"("topk_group": 2)", R"("topk_group": 4)");
  EXPECT_EQ(count(some.front().model, "Less"), 1);
  EXPECT_EQ(count(all.front().model, "Less"), 0);
  EXPECT_EQ(count(some.front().model, "TopK") - count(all.front().model, "TopK"), 2);
}

// An expert is its three matrices; everything else is there once per layer.
TEST(Mixture, AnExpertIsThreeMatMul) {
  const auto graphs = build_changed("mixtral", "", "");
  int nodes = 0;
  for (const auto& node : graphs.front().model.proto->graph().node()) {
    if (node.name().starts_with("/model/layers.0/block_sparse_moe/experts/0/")) {
      ++nodes;
      EXPECT_EQ(node.op_type(), "MatMul");
    }
  }
  EXPECT_EQ(nodes, 3);
}

}  // namespace
}  // namespace onnxferry
