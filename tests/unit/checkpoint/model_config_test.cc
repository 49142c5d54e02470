#include "pipeline/checkpoint/model_config.h"

#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

using ::testing::ElementsAre;
using testing::expect_error;
using ::testing::Optional;

TEST(ModelConfig, NullIsAbsent) {
  const auto config = ModelConfig::parse(R"({"sliding_window": null, "hidden_size": 8})");
  EXPECT_EQ(config.integer("sliding_window", 7), 7);
  EXPECT_FALSE(config.has("sliding_window"));
  EXPECT_EQ(config.integer("hidden_size"), 8);
}

TEST(ModelConfig, WrongTypesNameKeyAndValue) {
  const auto config =
      ModelConfig::parse(R"({"hidden_size": "8", "layers": [1, "a"], "flag": 1, "half": 2.5})");
  expect_error(ErrorCode::kCorruptCheckpoint, "hidden_size is \"8\", expected an integer", [&] {
    static_cast<void>(config.integer("hidden_size"));
  });
  expect_error(ErrorCode::kCorruptCheckpoint,
               "layers is [1,\"a\"], expected a list of strings",
               [&] { static_cast<void>(config.find_texts("layers")); });
  expect_error(ErrorCode::kCorruptCheckpoint, "flag is 1, expected true or false", [&] {
    static_cast<void>(config.boolean("flag", true));
  });
  expect_error(ErrorCode::kCorruptCheckpoint, "half is 2.5", [&] {
    static_cast<void>(config.integer("half"));
  });
}

TEST(ModelConfig, AcceptsWholeFloatsAsIntegers) {
  EXPECT_EQ(ModelConfig::parse(R"({"n": 4.0})").integer("n"), 4);
}

TEST(ModelConfig, RefusesSizesThatAreNoSizes) {
  for (const auto* const text : {R"({"n": 0})", R"({"n": -3})", R"({"n": 99999999999})"}) {
    expect_error(ErrorCode::kUnsupportedModel, "expected a positive size", [&] {
      static_cast<void>(ModelConfig::parse(text).dimension("n"));
    });
  }
}

TEST(ModelConfig, ReadsOneSizeOrAListOfThem) {
  const auto config = ModelConfig::parse(
      R"({"one": 4, "list": [1, 2.0, 3], "none": null, "empty": [], "bad": [4, 0], "text": [4, "a"]})");
  EXPECT_THAT(config.dimensions("one", 2), Optional(ElementsAre(4, 4)));
  EXPECT_THAT(config.dimensions("list", 2), Optional(ElementsAre(1, 2, 3)));
  EXPECT_EQ(config.dimensions("none", 2), std::nullopt);
  EXPECT_EQ(config.dimensions("other", 2), std::nullopt);
  EXPECT_THAT(config.dimensions("empty", 2), Optional(ElementsAre()));
  expect_error(ErrorCode::kUnsupportedModel, "bad is [4,0]; expected positive sizes", [&] {
    static_cast<void>(config.dimensions("bad", 2));
  });
  expect_error(ErrorCode::kCorruptCheckpoint, "text is \"a\", expected an integer", [&] {
    static_cast<void>(config.dimensions("text", 2));
  });
}

TEST(ModelConfig, RefusesWhatIsNotAnObject) {
  expect_error(
      ErrorCode::kCorruptCheckpoint, "not a JSON object", [] { ModelConfig::parse("[1]"); });
  expect_error(
      ErrorCode::kCorruptCheckpoint, "not valid JSON", [] { ModelConfig::parse("{\"a\": "); });
}

TEST(ModelConfig, CountsLabels) {
  EXPECT_EQ(ModelConfig::parse(R"({"id2label": {"0": "a", "1": "b", "2": "c"}, "num_labels": 9})")
                .num_labels(),
            3);
  EXPECT_EQ(ModelConfig::parse(R"({"num_labels": 9})").num_labels(), 9);
  EXPECT_EQ(ModelConfig::parse("{}").num_labels(), 2);
}

TEST(ModelConfig, NestedKeysAreConsumedLeafByLeaf) {
  const auto config = ModelConfig::parse(R"({"rope_scaling": {"factor": 2.0, "surprise": 1}})");
  const auto scaling = config.find_object("rope_scaling");
  EXPECT_EQ(scaling->number("factor"), 2.0);
  ASSERT_EQ(config.leftovers().size(), 1U);
  EXPECT_EQ(config.leftovers().front().path, "rope_scaling.surprise");
}

TEST(ConfigConsumed, RefusesKeysThatChangeMath) {
  struct Case {
    const char* json;
    const char* part;
  };
  for (const Case& c :
       {Case{R"({"quantization_config": {"bits": 4}})",
             "quantization_config.bits is 4; the checkpoint is quantized"},
        Case{R"({"attn_logit_softcapping": 50.0})", "attn_logit_softcapping is 50.0"},
        Case{R"({"rope_scaling": {"type": "linear", "factor": 2}})", "rope_scaling.factor is 2"},
        Case{R"({"pruned_heads": {"0": [1]}})", "pruned_heads.0"}}) {
    expect_error(ErrorCode::kUnsupportedModel, c.part, [&] {
      check_config_consumed(ModelConfig::parse(c.json));
    });
  }
}

TEST(ConfigConsumed, NeutralValuesAreNoReason) {
  const auto config = ModelConfig::parse(
      R"({"quantization_config": null, "pruned_heads": {}, "attention_bias": false, "num_experts": null})");
  EXPECT_THAT(check_config_consumed(config), ElementsAre());
}

// Published Phi-3 and DeepSeek checkpoints name custom code there; transformers takes its own class
// of that type unless it is told to trust the code, and so do we, and say so.
TEST(ConfigConsumed, CustomCodeBesideAKnownTypeIsAWarning) {
  const auto config =
      ModelConfig::parse(R"({"auto_map": {"AutoModel": "modeling_phi3.Phi3Model"}})");
  EXPECT_THAT(check_config_consumed(config), ElementsAre("auto_map.AutoModel"));
}

TEST(ConfigConsumed, ReportsUnknownKeysAndForgetsHarmlessOnes) {
  const auto config =
      ModelConfig::parse(R"({"torch_dtype": "float16", "use_cache": true, "my_note": "x"})");
  EXPECT_THAT(check_config_consumed(config), ElementsAre("my_note"));
}

}  // namespace
}  // namespace onnxferry
