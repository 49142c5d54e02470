#include "pipeline/graph/builder.h"

#include <onnx/onnx_pb.h>

#include "pipeline/graph/decoder.h"
#include "pipeline/graph/layers.h"
#include "pipeline/graph/rotary.h"
#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

using testing::checkpoint_dir;
using testing::expect_error;
using ::testing::HasSubstr;

class GraphBuilderTest : public ::testing::Test {
 protected:
  WeightFiles tensors_ = WeightFiles::open(checkpoint_dir("qwen2"));
};

TEST_F(GraphBuilderTest, NamesNodesLikeTorch) {
  GraphBuilder g(tensors_, 17);
  const Value x = g.input("x", Dtype::kFloat32, {"n", std::int64_t{4}});
  {
    const auto scope = g.scope("model/layers.0");
    const Value once = g.Relu(x);
    const Value twice = g.Relu(once);
    g.output("y", twice, {"n", std::int64_t{4}});
  }
  const GraphModel model = std::move(g).finish();
  const std::string text = print_graph(model);
  EXPECT_THAT(text, HasSubstr("/model/layers.0/Relu: /model/layers.0/Relu_output_0 = Relu(x)"));
  EXPECT_THAT(text, HasSubstr("/model/layers.0/Relu_1: y = Relu(/model/layers.0/Relu_output_0)"));
  check_graph(model);
}

TEST_F(GraphBuilderTest, PoolsEqualConstantsAndDropsUnreadOnes) {
  GraphBuilder g(tensors_, 17);
  const Value x = g.input("x", Dtype::kFloat32, {"n"});
  const Value y = g.Add(g.Mul(x, g.float_scalar(2.0F)), g.float_scalar(2.0F));
  g.float_scalar(3.0F);
  g.output("y", y, {"n"});
  const GraphModel model = std::move(g).finish();
  EXPECT_EQ(model.recipes.size(), 1U);
}

TEST_F(GraphBuilderTest, OutputsThatOtherNodesReadAreRenamedEverywhere) {
  GraphBuilder g(tensors_, 17);
  const Value x = g.input("x", Dtype::kFloat32, {"n"});
  const Value present = g.Relu(x);
  const Value logits = g.Neg(present);
  g.output("logits", logits, {"n"});
  g.output("present", present, {"n"});
  const GraphModel model = std::move(g).finish();
  EXPECT_THAT(print_graph(model), HasSubstr("logits = Neg(present)"));
  check_graph(model);
}

TEST_F(GraphBuilderTest, RefusesTensorsOfAnotherShape) {
  const GraphBuilder g(tensors_, 17);
  expect_error(ErrorCode::kCorruptCheckpoint,
               "model.norm.weight has shape [32], config.json implies [33]",
               [&] { static_cast<void>(g.tensor("model.norm.weight", {33})); });
  expect_error(ErrorCode::kCorruptCheckpoint, "no tensor model.gone.weight", [&] {
    static_cast<void>(g.tensor("model.gone.weight", {33}));
  });
}

TEST_F(GraphBuilderTest, CheckGraphCatchesWrongGraphs) {
  GraphBuilder g(tensors_, 17);
  const Value x = g.input("x", Dtype::kFloat32, {std::int64_t{2}, std::int64_t{3}});
  const Value wrong = g.MatMul(x, g.weight("model.norm.weight", {32}));
  g.output("y", wrong, {std::int64_t{2}});
  const GraphModel model = std::move(g).finish();
  expect_error(ErrorCode::kInternal, "the exported graph is invalid", [&] { check_graph(model); });
}

// Equal operators over equal types are checked once. In each graph the second of two nodes differs
// in one thing; the Relu behind it shows whether it was taken for the first.
TEST_F(GraphBuilderTest, CheckGraphTellsNodesApartByShapesValuesAndAttributes) {
  const auto check = [&](std::int64_t rows, std::int64_t columns, auto&& make) {
    GraphBuilder g(tensors_, 17);
    const Value x = g.input("x", Dtype::kFloat32, {std::int64_t{2}, std::int64_t{6}});
    g.output("y", g.Relu(make(g, x)), {rows, columns});
    check_graph(std::move(g).finish());
  };
  const auto weight = [](GraphBuilder& g, const char* name, std::int64_t rows) {
    return g.initializer(name, generate(Dtype::kFloat32, {rows, 6}, [](auto, auto) {}));
  };
  check(4, 3, [](GraphBuilder& g, const Value& x) {
    static_cast<void>(g.Reshape(x, g.ints({6, 2})));
    return g.Reshape(x, g.ints({4, 3}));
  });
  check(2, 6, [](GraphBuilder& g, const Value& x) {
    static_cast<void>(g.Transpose(x, {1, 0}));
    return g.Transpose(x, {0, 1});
  });
  check(2, 6, [&](GraphBuilder& g, const Value& x) {
    return g.MatMul(g.MatMul(x, weight(g, "first", 6)), weight(g, "second", 6));
  });
  expect_error(ErrorCode::kInternal, "Incompatible dimensions for matrix multiplication", [&] {
    check(2, 6, [&](GraphBuilder& g, const Value& x) {
      return g.MatMul(g.MatMul(x, weight(g, "first", 6)), weight(g, "second", 5));
    });
  });
}

/// y = Relu(Relu(x)), valid until a test breaks it.
class CheckGraph : public GraphBuilderTest {
 protected:
  CheckGraph() {
    GraphBuilder g(tensors_, 17);
    const Value x = g.input("x", Dtype::kFloat32, {"n", std::int64_t{4}});
    g.output("y", g.Relu(g.Relu(x)), {"n", std::int64_t{4}});
    model_ = std::move(g).finish();
  }

  onnx::GraphProto& graph() { return *model_.proto->mutable_graph(); }
  void expect_invalid(const char* text) {
    expect_error(ErrorCode::kInternal, text, [&] { check_graph(model_); });
  }

  GraphModel model_;
};

TEST_F(CheckGraph, AcceptsTheGraphThatTheOthersBreak) {
  check_graph(model_);
}

TEST_F(CheckGraph, RefusesNodesOutOfOrder) {
  graph().mutable_node()->SwapElements(0, 1);
  expect_invalid("topologically sorted");
}

TEST_F(CheckGraph, RefusesTwoValuesOfOneName) {
  *graph().add_node() = graph().node(0);
  expect_invalid("single static assignment");
}

TEST_F(CheckGraph, RefusesAnOutputThatNothingMakes) {
  graph().mutable_output(0)->set_name("z");
  expect_invalid("no node makes the graph output z");
}

TEST_F(CheckGraph, RefusesAnOutputOfAnotherShape) {
  auto& type = *graph().mutable_output(0)->mutable_type()->mutable_tensor_type();
  type.mutable_shape()->mutable_dim(1)->set_dim_value(5);
  expect_invalid("differ in dimension 1");
}

TEST_F(CheckGraph, RefusesAnOutputOfAnotherType) {
  auto& type = *graph().mutable_output(0)->mutable_type()->mutable_tensor_type();
  type.set_elem_type(onnx::TensorProto::FLOAT16);
  expect_invalid("differs from existing elem type");
}

TEST_F(CheckGraph, RefusesOperatorsThatDoNotExist) {
  graph().mutable_node(0)->set_op_type("Rely");
  expect_invalid("No Op registered for Rely");
}

TEST_F(CheckGraph, RefusesAttributesThatAnOperatorLacks) {
  onnx::AttributeProto& attribute = *graph().mutable_node(0)->add_attribute();
  attribute.set_name("axis");
  attribute.set_type(onnx::AttributeProto::INT);
  expect_invalid("Unrecognized attribute: axis");
}

TEST_F(CheckGraph, RefusesInputsOfDifferentTypes) {
  graph().mutable_node(1)->set_op_type("Add");
  graph().mutable_node(1)->add_input("n");
  model_.recipes.add("n", literal(Dtype::kInt64, {}, std::string(8, '\0')));
  expect_invalid("inconsistent type");
}

TEST_F(GraphBuilderTest, UnknownActivationIsRefusedByName) {
  GraphBuilder g(tensors_, 17);
  const Value x = g.input("x", Dtype::kFloat32, {"n"});
  const auto config = ModelConfig::parse(R"({"hidden_act": "gelu_fancy"})");
  expect_error(ErrorCode::kUnsupportedModel, "hidden_act is \"gelu_fancy\"", [&] {
    activation(g, x, config, "hidden_act", "gelu");
  });
}

TEST_F(GraphBuilderTest, PastDimsAreSymbolicOnlyWhereOrtModelGuessesWrong) {
  const auto past_dims = [&](bool matches_ort_model) {
    GraphBuilder g(tensors_, 17);
    const CacheShape shape{.num_layers = 1,
                           .num_key_value_heads = 2,
                           .head_dim = 8,
                           .matches_ort_model = matches_ort_model};
    const DecoderInputs inputs(g, shape, PastInputs::kYes, PositionInput::kNo);
    return std::move(g).finish().inputs.back().dims;
  };
  EXPECT_EQ(past_dims(true),
            (Dims{"batch_size", std::int64_t{2}, "past_sequence_length", std::int64_t{8}}));
  EXPECT_EQ(past_dims(false),
            (Dims{"batch_size", "num_key_value_heads", "past_sequence_length", "head_dim"}));
}

TEST(Rope, ReadsBothSpellings) {
  const auto v4 =
      read_rope(ModelConfig::parse(
                    R"({"rope_theta": 1000, "rope_scaling": {"type": "linear", "factor": 4}})"),
                8,
                10000);
  const auto v5 = read_rope(
      ModelConfig::parse(
          R"({"rope_parameters": {"rope_theta": 1000, "rope_type": "linear", "factor": 4}})"),
      8,
      10000);
  EXPECT_EQ(v4.frequencies, v5.frequencies);
  EXPECT_FLOAT_EQ(v4.frequencies[0], 0.25F);
}

TEST(Rope, LongRopeKeepsBothTables) {
  const auto rope = read_rope(
      ModelConfig::parse(
          R"({"max_position_embeddings": 64, "original_max_position_embeddings": 16, "rope_scaling":
        {"type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [2, 2, 2, 2]}})"),
      8,
      10000);
  EXPECT_EQ(rope.original_length, 16);
  EXPECT_FLOAT_EQ(rope.long_frequencies[0] * 2, rope.frequencies[0]);
  EXPECT_NEAR(rope.attention_factor, 1.2247448714, 1e-9);  // sqrt(1 + ln 4 / ln 16)
}

TEST(Rope, RefusesWhatItDoesNotKnow) {
  expect_error(ErrorCode::kUnsupportedModel, "rope_scaling.type is \"mrope\"", [] {
    read_rope(ModelConfig::parse(R"({"rope_scaling": {"type": "mrope", "mrope_section": [1]}})"),
              8,
              10000);
  });
  expect_error(ErrorCode::kUnsupportedModel, "expected one factor per pair", [] {
    read_rope(
        ModelConfig::parse(R"({"rope_scaling": {"rope_type": "longrope", "short_factor": [1]}})"),
        8,
        10000);
  });
  expect_error(ErrorCode::kCorruptCheckpoint, "no rope_scaling.factor", [] {
    read_rope(ModelConfig::parse(R"({"rope_scaling": {"rope_type": "linear"}})"), 8, 10000);
  });
}

}  // namespace
}  // namespace onnxferry
