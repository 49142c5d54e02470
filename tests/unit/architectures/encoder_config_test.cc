// What fixtures do not reach: config values that are refused, and flags that must change the graph.

#include <regex>

#include <fmt/format.h>

#include "pipeline/architectures/registry.h"
#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

using testing::checkpoint_dir;
using testing::expect_error;

/// config.json of a fixture with one key set to a JSON value.
ModelConfig edited_config(const std::string& fixture,
                          const std::string& key,
                          const std::string& value) {
  std::string json = testing::read_text(checkpoint_dir(fixture) / "config.json");
  const std::regex entry(fmt::format(R"("{}"\s*:\s*(\[[^\]]*\]|[^,\n]*))", key));
  const std::string replacement = fmt::format(R"("{}": {})", key, value);
  json = std::regex_search(json, entry)
             ? std::regex_replace(json, entry, replacement, std::regex_constants::format_first_only)
             : "{" + replacement + "," + json.substr(1);
  return ModelConfig::parse(json);
}

std::string graph_of(const std::string& fixture, std::string_view task, const ModelConfig& config) {
  const WeightFiles tensors = WeightFiles::open(checkpoint_dir(fixture));
  const Architecture& architecture = find_architecture(config);
  const auto graphs = architecture.build({config, tensors, task});
  check_config_consumed(config);
  check_graph(graphs.front().model);
  return print_graph(graphs.front().model);
}

struct Edit {
  std::string fixture;
  std::string task;
  std::string key;
  std::string value;
  std::string message;  // part of it

  friend void PrintTo(const Edit& edit, std::ostream* out) {
    *out << edit.fixture << " " << edit.key << "=" << edit.value;
  }
};

class RefusedEncoderConfig : public ::testing::TestWithParam<Edit> {};

TEST_P(RefusedEncoderConfig, IsNamed) {
  const Edit& edit = GetParam();
  expect_error(ErrorCode::kUnsupportedModel, edit.message, [&] {
    graph_of(edit.fixture, edit.task, edited_config(edit.fixture, edit.key, edit.value));
  });
}

INSTANTIATE_TEST_SUITE_P(
    Encoders,
    RefusedEncoderConfig,
    ::testing::Values(
        Edit{"bert-fill-mask",
             "fill-mask",
             "position_embedding_type",
             R"("relative_key")",
             R"(position_embedding_type is "relative_key")"},
        Edit{"bert-fill-mask", "fill-mask", "num_attention_heads", "5", "must divide hidden_size"},
        Edit{"roberta-fill-mask", "fill-mask", "is_decoder", "true", "is_decoder is true"},
        Edit{"roberta-fill-mask",
             "fill-mask",
             "hidden_act",
             R"("swoosh")",
             R"(hidden_act is "swoosh")"},
        Edit{"ibert-fill-mask", "fill-mask", "quant_mode", "true", "quant_mode is true"},
        Edit{"mpnet-fill-mask",
             "fill-mask",
             "relative_attention_num_buckets",
             "16",
             "relative_attention_num_buckets is 16"},
        Edit{"electra-multiple-choice",
             "multiple-choice",
             "summary_type",
             R"("mean")",
             R"(summary_type is "mean")"},
        Edit{"deberta-v2-fill-mask", "fill-mask", "position_buckets", "2", "position_buckets is 2"},
        Edit{"deberta-v2-conv",
             "token-classification",
             "conv_kernel_size",
             "4",
             "conv_kernel_size is 4"},
        Edit{"deberta-v2-fill-mask",
             "fill-mask",
             "attention_head_size",
             "16",
             "attention_head_size is 16"},
        Edit{"deberta-fill-mask", "fill-mask", "talking_head", "true", "talking_head is true"},
        Edit{"modernbert-cls",
             "text-classification",
             "classifier_pooling",
             R"("max")",
             R"(classifier_pooling is "max")"},
        Edit{"modernbert-cls",
             "text-classification",
             "rope_scaling",
             R"({"rope_type": "linear", "factor": 2.0})",
             "rope_scaling"},
        Edit{"convbert-fill-mask", "fill-mask", "conv_kernel_size", "4", "conv_kernel_size is 4"},
        Edit{"mobilebert-fill-mask",
             "fill-mask",
             "normalization_type",
             R"("batch_norm")",
             R"(normalization_type is "batch_norm")"},
        Edit{"esm-fill-mask",
             "fill-mask",
             "position_embedding_type",
             R"("relative_key")",
             R"(position_embedding_type is "relative_key")"},
        Edit{"esm-fill-mask", "fill-mask", "is_folding_model", "true", "is_folding_model is true"},
        Edit{"esm-fill-mask", "fill-mask", "is_decoder", "true", "is_decoder is true"},
        Edit{"esm-fill-mask", "fill-mask", "mask_token_id", "null", "token_dropout needs it"},
        Edit{"nystromformer-fill-mask", "fill-mask", "num_landmarks", "2", "num_landmarks is 2"},
        Edit{"nystromformer-fill-mask",
             "fill-mask",
             "conv_kernel_size",
             "4",
             "conv_kernel_size is 4"},
        Edit{"big_bird-fill-mask",
             "fill-mask",
             "attention_type",
             R"("sparse")",
             R"(attention_type is "sparse")"},
        Edit{"big_bird-fill-mask",
             "fill-mask",
             "num_random_blocks",
             "-1",
             "num_random_blocks is -1"},
        Edit{"big_bird-fill-mask", "fill-mask", "is_decoder", "true", "is_decoder is true"},
        Edit{"big_bird-question-answering",
             "question-answering",
             "type_vocab_size",
             "1",
             "two types"},
        Edit{"xlm-fill-mask", "fill-mask", "causal", "true", "causal is true"},
        Edit{"xlm-fill-mask", "fill-mask", "is_encoder", "false", "is_encoder is false"},
        Edit{"xlm-fill-mask", "fill-mask", "asm", "true", "asm is true"},
        Edit{"xlm-fill-mask", "fill-mask", "n_heads", "5", "must divide emb_dim"},
        Edit{"xlm-text-classification",
             "text-classification",
             "summary_type",
             R"("mean")",
             R"(summary_type is "mean")"},
        Edit{"flaubert-text-classification",
             "text-classification",
             "summary_activation",
             R"("tanh")",
             R"(summary_activation is "tanh")"},
        Edit{"flaubert-multiple-choice",
             "multiple-choice",
             "summary_proj_to_labels",
             "false",
             "summary_proj_to_labels is false"},
        Edit{"longformer-fill-mask", "fill-mask", "attention_window", "5", "attention_window is 5"},
        Edit{"longformer-fill-mask",
             "fill-mask",
             "attention_window",
             "[4]",
             "attention_window is [4]"}));

// A key that is read but forgotten would give the same graph.
class EncoderFlag : public ::testing::TestWithParam<Edit> {};

TEST_P(EncoderFlag, ChangesTheGraph) {
  const Edit& edit = GetParam();
  const auto config = ModelConfig::load(checkpoint_dir(edit.fixture));
  EXPECT_NE(graph_of(edit.fixture, edit.task, config),
            graph_of(edit.fixture, edit.task, edited_config(edit.fixture, edit.key, edit.value)));
}

INSTANTIATE_TEST_SUITE_P(
    Encoders,
    EncoderFlag,
    ::testing::Values(
        Edit{"bert-fill-mask", "fill-mask", "hidden_act", R"("relu")", ""},
        Edit{"bert-fill-mask", "fill-mask", "layer_norm_eps", "1e-5", ""},
        Edit{"bert-fill-mask", "fill-mask", "num_attention_heads", "2", ""},
        Edit{"roberta-fill-mask", "fill-mask", "pad_token_id", "3", ""},
        Edit{"albert-token-classification", "token-classification", "num_hidden_groups", "1", ""},
        Edit{"albert-token-classification", "token-classification", "inner_group_num", "1", ""},
        Edit{"electra-multiple-choice", "multiple-choice", "summary_type", R"("last")", ""},
        Edit{"electra-multiple-choice", "multiple-choice", "summary_activation", R"("tanh")", ""},
        Edit{"electra-multiple-choice", "multiple-choice", "summary_use_proj", "false", ""},
        Edit{"deberta-v2-fill-mask", "fill-mask", "pos_att_type", R"("c2p")", ""},
        Edit{"deberta-v2-fill-mask", "fill-mask", "pos_att_type", R"(["p2c"])", ""},
        Edit{"deberta-v2-fill-mask", "fill-mask", "relative_attention", "false", ""},
        Edit{"deberta-v2-fill-mask", "fill-mask", "norm_rel_ebd", R"("none")", ""},
        Edit{"deberta-v2-fill-mask", "fill-mask", "max_relative_positions", "32", ""},
        Edit{"deberta-v2-conv", "token-classification", "conv_act", R"("tanh")", ""},
        Edit{"deberta-v2-conv", "token-classification", "conv_kernel_size", "0", ""},
        Edit{"deberta-v2-text-classification",
             "text-classification",
             "pooler_hidden_act",
             R"("tanh")",
             ""},
        Edit{"deberta-fill-mask", "fill-mask", "pos_att_type", R"("c2p")", ""},
        Edit{"deberta-fill-mask", "fill-mask", "relative_attention", "false", ""},
        Edit{"modernbert-cls", "text-classification", "classifier_pooling", R"("mean")", ""},
        Edit{"modernbert-cls", "text-classification", "local_attention", "8", ""},
        Edit{"modernbert-cls", "text-classification", "global_attn_every_n_layers", "3", ""},
        Edit{"modernbert-cls", "text-classification", "global_rope_theta", "10000.0", ""},
        Edit{"modernbert-cls", "text-classification", "local_rope_theta", "20000.0", ""},
        Edit{"modernbert-cls", "text-classification", "local_rope_theta", "null", ""},
        Edit{"modernbert-cls", "text-classification", "hidden_activation", R"("silu")", ""},
        Edit{"modernbert-cls", "text-classification", "classifier_activation", R"("silu")", ""},
        Edit{"roformer-fill-mask", "fill-mask", "rotary_value", "true", ""},
        Edit{"ernie-fill-mask", "fill-mask", "use_task_id", "false", ""},
        Edit{"convbert-fill-mask", "fill-mask", "hidden_act", R"("relu")", ""},
        Edit{"mobilebert-fill-mask", "fill-mask", "normalization_type", R"("layer_norm")", ""},
        Edit{"mobilebert-fill-mask", "fill-mask", "num_feedforward_networks", "1", ""},
        Edit{"esm-fill-mask", "fill-mask", "token_dropout", "false", ""},
        Edit{"esm-fill-mask", "fill-mask", "mask_token_id", "6", ""},
        Edit{
            "esm-text-classification", "text-classification", "emb_layer_norm_before", "false", ""},
        Edit{"esm-text-classification", "text-classification", "pad_token_id", "3", ""},
        Edit{"splinter-question-answering", "question-answering", "question_token_id", "5", ""},
        Edit{"nystromformer-fill-mask", "fill-mask", "conv_kernel_size", "null", ""},
        Edit{"big_bird-fill-mask", "fill-mask", "rescale_embeddings", "false", ""},
        Edit{"big_bird-text-classification",
             "text-classification",
             "attention_type",
             R"("original_full")",
             ""},
        Edit{"big_bird-text-classification", "text-classification", "block_size", "3", ""},
        Edit{"big_bird-text-classification", "text-classification", "num_random_blocks", "2", ""},
        Edit{"big_bird-question-answering", "question-answering", "sep_token_id", "5", ""},
        Edit{"xlm-fill-mask", "fill-mask", "gelu_activation", "false", ""},
        Edit{"flaubert-fill-mask", "fill-mask", "pre_norm", "false", ""},
        Edit{"longformer-fill-mask", "fill-mask", "attention_window", "2", ""}));

// Keys that transformers does not read for these classes must not matter here either.
TEST(EncoderConfig, FixedValuesIgnoreTheConfig) {
  const auto same =
      [](const std::string& fixture, const std::string& key, const std::string& value) {
        const auto config = ModelConfig::load(checkpoint_dir(fixture));
        EXPECT_EQ(graph_of(fixture, "fill-mask", config),
                  graph_of(fixture, "fill-mask", edited_config(fixture, key, value)))
            << fixture << " " << key;
      };
  same("mpnet-fill-mask", "pad_token_id", "3");            // positions count from 1 always
  same("distilbert-fill-mask", "layer_norm_eps", "1e-3");  // 1e-12 always
  same("esm-fill-mask", "hidden_act", R"("relu")");        // gelu always
  same("xlm-fill-mask", "pre_norm", "true");               // FlauBERT's
}

}  // namespace
}  // namespace onnxferry
