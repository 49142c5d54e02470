// What the fixtures of the GPT-like types do not reach: refusals and other names of keys.

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

/// The graph of a fixture's weights under an edited config.json.
std::string build(const std::string& fixture, const std::vector<Edit>& edits) {
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
      architecture.build({config, tensors, resolve_task("auto", architecture, config)});
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

TEST(Gpt, KeysHaveTwoNames) {
  EXPECT_EQ(build("gpt2",
                  {{"\"n_embd\"", "\"hidden_size\""},
                   {"\"n_head\"", "\"num_attention_heads\""},
                   {"\"n_layer\"", "\"num_hidden_layers\""}}),
            build("gpt2", {}));
  EXPECT_EQ(build("bloom", {{"\"hidden_size\"", "\"n_embed\""}}), build("bloom", {}));
}

TEST(Gpt, TheSecondNameWins) {
  EXPECT_EQ(build("gpt2", {{"\"n_embd\": 32", "\"n_embd\": 7, \"hidden_size\": 32"}}),
            build("gpt2", {}));
}

TEST(Gpt, HeadsDivideTheHiddenSize) {
  refuses("gpt2", {{"\"n_head\": 4", "\"num_attention_heads\": 5"}}, "num_attention_heads");
  refuses(
      "opt", {{"\"num_attention_heads\": 4", "\"num_attention_heads\": 5"}}, "num_attention_heads");
}

TEST(GptNeo, NeedsTheLayersSpelledOut) {
  refuses("gpt_neo", {{"\"attention_layers\"", "\"other\""}}, "attention_types");
  refuses("gpt_neo", {{"\"global\"", "\"block\""}}, "attention_layers");
}

TEST(GptNeox, RotaryKeysOfItsOwnWin) {
  EXPECT_EQ(build("gpt_neox",
                  {{"\"rope_theta\": 10000", "\"rope_theta\": 500"},
                   {"\"partial_rotary_factor\": 0.25", "\"partial_rotary_factor\": 1.0"}}),
            build("gpt_neox", {}));
}

TEST(Gptj, RefusesARotaryPartThatDoesNotFit) {
  refuses("gptj", {{"\"rotary_dim\": 4", "\"rotary_dim\": 10"}}, "rotary_dim");
  refuses("gptj", {{"\"rotary_dim\": 4", "\"rotary_dim\": 3"}}, "rotary_dim");
}

TEST(Codegen, NeedsAMultipleOfFourHeads) {
  refuses("codegen",
          {{"\"n_head\": 4", "\"n_head\": 2"}, {"\"rotary_dim\": 4", "\"rotary_dim\": 8"}},
          "n_head");
}

TEST(Bloom, RefusesThePathWithoutBiases) {
  refuses("bloom",
          {{"\"slow_but_exact\": false", "\"slow_but_exact\": true"},
           {"\"pretraining_tp\": 1", "\"pretraining_tp\": 2"}},
          "slow_but_exact");
}

TEST(Mpt, RefusesWhatTransformersWouldIgnore) {
  refuses("mpt", {{"\"alibi\": true", "\"alibi\": false"}}, "attn_config.alibi");
  refuses("mpt", {{"\"qk_ln\": false", "\"qk_ln\": true"}}, "attn_config.qk_ln");
  refuses("mpt", {{"\"prefix_lm\": false", "\"prefix_lm\": true"}}, "attn_config.prefix_lm");
  refuses("mpt", {{"multihead_attention", "multiquery_attention"}}, "attn_config.attn_type");
  refuses(
      "mpt", {{"\"alibi_bias_max\": 8", "\"alibi_bias_max\": 16"}}, "attn_config.alibi_bias_max");
  refuses("mpt", {{"\"no_bias\": true", "\"no_bias\": false"}}, "no_bias");
  refuses("mpt", {{"low_precision_layernorm", "rmsnorm"}}, "norm_type");
  refuses("mpt", {{"\"logit_scale\": null", "\"logit_scale\": 0.5"}}, "logit_scale");
}

TEST(Mpt, NeedsNoRemoteCode) {
  const Edit remote = {
      "\"architectures\"",
      R"("auto_map": {"AutoConfig": "configuration_mpt.MPTConfig"}, "architectures")"};
  EXPECT_EQ(build("mpt", {remote}), build("mpt", {}));
  EXPECT_EQ(build("falcon", {remote}), build("falcon", {}));
}

TEST(Falcon, RefusesShapesThatTransformersLacks) {
  refuses("falcon-new", {{"\"parallel_attn\": true", "\"parallel_attn\": false"}}, "parallel_attn");
  refuses("falcon",
          {{"\"num_ln_in_parallel_attn\": null", "\"num_ln_in_parallel_attn\": 2"}},
          "num_ln_in_parallel_attn");
  refuses("falcon-rw", {{"\"num_kv_heads\": 4", "\"num_kv_heads\": 2"}}, "num_kv_heads");
  refuses("falcon-new", {{"\"num_kv_heads\": 2", "\"num_kv_heads\": 3"}}, "num_kv_heads");
}

TEST(Stablelm, RefusesAHeadSizeOfItsOwn) {
  refuses("stablelm", {{"\"vocab_size\"", "\"head_dim\": 16, \"vocab_size\""}}, "head_dim");
}

/// Scores that outgrow float16 stay float32.
TEST(GptNeo, ComputesScoresInFloat32) {
  const ModelConfig config = ModelConfig::load(checkpoint_dir("gpt_neo"));
  const WeightFiles tensors = WeightFiles::open(checkpoint_dir("gpt_neo"));
  const auto graphs = find_architecture(config).build({config, tensors, "text-generation"});
  const auto& kept = graphs.front().model.float32_nodes;
  EXPECT_TRUE(kept.contains("/transformer/h.0/attn/attention/MatMul"));
  EXPECT_TRUE(kept.contains("/transformer/h.0/attn/attention/Softmax"));
  EXPECT_FALSE(kept.contains("/transformer/h.0/attn/attention/q_proj/MatMul"));
}

}  // namespace
}  // namespace onnxferry
