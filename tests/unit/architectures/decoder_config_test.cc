// What the fixtures of Llama's family and its relatives do not reach: refusals, keys without effect
// and heads that do not fit the task.

#include <fmt/format.h>
#include <onnx/onnx_pb.h>

#include "pipeline/architectures/registry.h"
#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

using testing::checkpoint_dir;
using testing::expect_error;

struct Edit {
  std::string from;
  std::string to;
};

/// The graph of a fixture's weights under an edited config.json; "auto" is the class's own task.
std::string build(const std::string& fixture,
                  const std::vector<Edit>& edits,
                  std::string_view task = "auto") {
  std::string text = testing::read_text(checkpoint_dir(fixture) / "config.json");
  for (const auto& [from, to] : edits) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  }
  const ModelConfig config = ModelConfig::parse(text);
  const WeightFiles tensors = WeightFiles::open(checkpoint_dir(fixture));
  const Architecture& architecture = find_architecture(config);
  const auto graphs =
      architecture.build({config, tensors, resolve_task(task, architecture, config)});
  check_tensors_consumed(architecture, tensors, graphs);
  check_config_consumed(config);
  return print_graph(graphs.front().model);
}

void refuses(const std::string& fixture, const std::vector<Edit>& edits, std::string_view key) {
  SCOPED_TRACE(fixture);
  expect_error(ErrorCode::kUnsupportedModel, fmt::format("config.json: {} is ", key), [&] {
    build(fixture, edits);
  });
}

/// Keys that transformers saves as a matter of course and does not read are no reason to warn.
TEST(DecoderConfig, UsualConfigsGiveNoWarning) {
  for (const auto* const fixture : {"llama",
                                    "mistral",
                                    "qwen2",
                                    "qwen3-tied",
                                    "phi3",
                                    "phi3-longrope",
                                    "gemma",
                                    "gemma2",
                                    "granitemoehybrid",
                                    "hunyuan_v1_moe",
                                    "lfm2",
                                    "ministral",
                                    "modernbert-decoder",
                                    "openai-gpt",
                                    "ctrl",
                                    "diffllama",
                                    "gpt_neox_japanese",
                                    "vaultgemma"}) {
    SCOPED_TRACE(fixture);
    const ModelConfig config = ModelConfig::load(checkpoint_dir(fixture));
    const WeightFiles tensors = WeightFiles::open(checkpoint_dir(fixture));
    find_architecture(config).build({config, tensors, "text-generation"});
    EXPECT_THAT(check_config_consumed(config), ::testing::IsEmpty());
  }
}

TEST(DecoderHeads, ATokenClassifierIsNoSequenceClassifier) {
  expect_error(ErrorCode::kUnsupportedModel, "score.bias: its head classifies tokens", [] {
    build("llama-token-classification", {}, "text-classification");
  });
  expect_error(ErrorCode::kUnsupportedModel, "needs the tensor qa_outputs.weight", [] {
    build("llama-token-classification", {}, "question-answering");
  });
}

/// A saved config leaves out what its class has as a default. The fixtures' own id is 0 or 1.
TEST(DecoderHeads, TheClassKnowsWhatPadsASequence) {
  const std::pair<const char*, int> defaults[] = {{"biogpt", 1},
                                                  {"gemma", 0},
                                                  {"gemma2", 0},
                                                  {"gemma3_text", 0},
                                                  {"glm", 151329},
                                                  {"glm4", 151329},
                                                  {"helium", 3},
                                                  {"hunyuan_v1_dense", 0},
                                                  {"hunyuan_v1_moe", 0},
                                                  {"modernbert-decoder", 50283},
                                                  {"opt", 1},
                                                  {"phi3", 32000},
                                                  {"seed_oss", 1},
                                                  {"smollm3", 128004}};
  for (const auto& [model_type, id] : defaults) {
    SCOPED_TRACE(model_type);
    const std::string fixture = fmt::format("{}-text-classification", model_type);
    const std::string own = std::string_view(model_type) == "opt" ? "1" : "0";
    const std::string key = fmt::format(R"("pad_token_id": {},)", own);
    EXPECT_EQ(build(fixture, {{key, ""}}),
              build(fixture, {{key, fmt::format(R"("pad_token_id": {},)", id)}}));
    refuses(fixture, {{key, R"("pad_token_id": null,)"}}, "pad_token_id");
  }
}

TEST(DecoderHeads, WithoutPaddingBatchesCannotBeClassified) {
  for (const auto* const fixture : {"gpt2-text-classification",
                                    "mistral-text-classification",
                                    "phimoe-text-classification",
                                    "qwen3-text-classification"}) {
    refuses(fixture, {{R"("pad_token_id": 0,)", ""}}, "pad_token_id");
  }
}

/// transformers drops a head that the class does not have.
TEST(DecoderHeads, AHeadMayBeLeftOver) {
  EXPECT_EQ(build("llama-token-classification", {}, "feature-extraction").find("score"),
            std::string::npos);
  EXPECT_EQ(build("gpt2-token-classification", {}, "feature-extraction").find("classifier"),
            std::string::npos);
}

TEST(GraniteMoeHybrid, RefusesMambaLayers) {
  refuses("granitemoehybrid", {{R"("attention",)", R"("mamba",)"}}, "layer_types");
  refuses("granitemoehybrid", {{R"("layer_types")", R"("other")"}}, "layer_types");
}

TEST(GraniteMoeHybrid, TurnsOnlyWhereTheConfigSaysRope) {
  const std::string rope = R"("position_embedding_type": "rope")";
  EXPECT_NE(build("granitemoehybrid", {}).find("/Cos"), std::string::npos);
  EXPECT_EQ(
      build("granitemoehybrid", {{rope, R"("position_embedding_type": "nope")"}}).find("/Cos"),
      std::string::npos);
}

TEST(HunyuanMoe, RefusesCountsThatDifferBetweenLayers) {
  refuses("hunyuan_v1_moe", {{R"("num_experts": 4)", R"("num_experts": [4, 3])"}}, "num_experts");
  refuses("hunyuan_v1_moe", {{R"("num_experts": 4)", R"("num_experts": [4])"}}, "num_experts");
  refuses("hunyuan_v1_moe", {{R"("num_experts": 4)", R"("num_experts": [0, 0])"}}, "num_experts");
  refuses("hunyuan_v1_moe", {{R"("num_experts": 4)", R"("num_experts": 1)"}}, "moe_topk");
  EXPECT_EQ(build("hunyuan_v1_moe", {{R"("num_experts": 4)", R"("num_experts": [4, 4])"}}),
            build("hunyuan_v1_moe", {}));
}

// As Liquid AI's own config.json spells it.
TEST(Lfm2, ObeysTheOldNames) {
  const std::string types =
      "\"layer_types\": [\n    \"conv\",\n    \"full_attention\",\n    \"conv\"\n  ]";
  const std::string expected = build("lfm2", {});
  EXPECT_EQ(build("lfm2", {{types, R"("full_attn_idxs": [1])"}}), expected);
  EXPECT_EQ(build("lfm2",
                  {{R"("intermediate_size": 60)",
                    R"("intermediate_size": 99, "block_ff_dim": 60, "tie_embedding": true)"}}),
            expected);
  EXPECT_EQ(build("lfm2", {{R"("rope_theta": 1000.0)", R"("rope_theta": 10.0, "theta": 1000.0)"}}),
            expected);
}

TEST(Lfm2, RefusesWhatItDoesNotKnow) {
  refuses("lfm2", {{R"("full_attention",)", R"("sliding_attention",)"}}, "layer_types");
  refuses("lfm2", {{R"("layer_types": [)", R"("layer_types": ["conv",)"}}, "layer_types");
  expect_error(ErrorCode::kUnsupportedModel, "has no task text-generation-with-past", [] {
    build("lfm2", {}, "text-generation-with-past");
  });
}

TEST(Ministral, NeedsTheSizeOfAHead) {
  refuses("ministral", {{R"("head_dim": 12)", R"("head_dim": null)"}}, "head_dim");
}

TEST(OpenAiGpt, KnowsItsActivationsAlone) {
  refuses("openai-gpt", {{R"("afn": "gelu")", R"("afn": "gelu_pytorch_tanh")"}}, "afn");
  EXPECT_NE(build("openai-gpt", {{R"("afn": "gelu")", R"("afn": "relu")"}}),
            build("openai-gpt", {}));
  EXPECT_NE(build("openai-gpt", {{R"("afn": "gelu")", R"("afn": "swish")"}}),
            build("openai-gpt", {}));
}

TEST(OpenAiGpt, HasNoCache) {
  expect_error(ErrorCode::kUnsupportedModel, "has no task text-generation-with-past", [] {
    build("openai-gpt", {}, "text-generation-with-past");
  });
}

TEST(OpenAiGpt, IgnoresAWidthThatTransformersIgnores) {
  EXPECT_EQ(build("openai-gpt", {{R"("afn")", R"("n_inner": 7, "afn")"}}), build("openai-gpt", {}));
}

TEST(Ctrl, NeedsAnEvenSize) {
  refuses("ctrl", {{R"("n_embd": 32)", R"("n_embd": 33)"}}, "n_embd");
}

TEST(DiffLlama, NeedsPairsOfKeyHeads) {
  refuses("diffllama",
          {{R"("num_key_value_heads": 2)", R"("num_key_value_heads": 1)"}},
          "num_key_value_heads");
}

TEST(GptNeoxJapanese, NeedsAFeedForwardBlock) {
  refuses("gpt_neox_japanese",
          {{R"("intermediate_multiple_size": 1.5)", R"("intermediate_multiple_size": 0.01)"}},
          "intermediate_multiple_size");
}

TEST(ModernBertDecoder, NeedsAWindowWhereALayerSlides) {
  refuses("modernbert-decoder",
          {{R"("local_attention": 6)", R"("local_attention": 1)"}},
          "sliding_window");
}

TEST(ModernBertDecoder, TurnsAllLayersAlike) {
  EXPECT_EQ(build("modernbert-decoder",
                  {{R"("local_rope_theta": 500.0)", R"("local_rope_theta": 10.0)"}}),
            build("modernbert-decoder", {}));
  EXPECT_NE(build("modernbert-decoder",
                  {{R"("global_rope_theta": 1000.0)", R"("global_rope_theta": 10.0)"}}),
            build("modernbert-decoder", {}));
}

}  // namespace
}  // namespace onnxferry
