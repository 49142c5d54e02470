// Random configurations of every architecture: what its builder accepts must pass the checker, load
// in ONNX Runtime and agree with itself (prefill = decode, rows of a batch independent, padding
// without effect). The fixtures' config.json are the seeds; numbers are proven there.

#include <random>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <rapidcheck.h>

#include "pipeline/architectures/registry.h"
#include "pipeline/plan.h"
#include "tests/support/fixture.h"
#include "tests/support/implied_checkpoint.h"
#include "tests/support/runtime.h"
#include "tests/support/tests_dir.h"

namespace onnxferry {
namespace {

using Json = nlohmann::json;

/// Values that a key may take instead, in every architecture whose config has the key.
constexpr std::string_view kAlternatives = R"({
    "activation": ["gelu", "relu"],
    "activation_function": ["gelu", "gelu_new", "relu", "silu"],
    "afn": ["gelu", "relu", "silu"],
    "alibi": [true, false],
    "apply_residual_connection_post_layernorm": [true, false],
    "attention_bias": [true, false],
    "attention_type": ["original_full", "block_sparse"],
    "attention_window": [4, 8, [8, 4]],
    "attn_logit_softcapping": [null, 5.0],
    "bias": [true, false],
    "block_auto_adjust_ff_dim": [true, false],
    "block_size": [2, 64],
    "classifier_activation": ["gelu", "relu"],
    "classifier_bias": [true, false],
    "clip_qkv": [null, 0.5],
    "conv_L_cache": [1, 2, 4],
    "conv_bias": [true, false],
    "decoder_bias": [true, false],
    "decoder_sparse_step": [1, 2],
    "do_layer_norm_before": [true, false],
    "emb_layer_norm_before": [true, false],
    "embedding_size": [16, 32],
    "enable_bias": [true, false],
    "final_logit_softcapping": [null, 3.0],
    "gelu_activation": [true, false],
    "global_attn_every_n_layers": [1, 2],
    "head_dim": [8, 12, 16],
    "hidden_act": ["gelu", "gelu_new", "quick_gelu", "relu", "relu2", "silu", "gelu_pytorch_tanh"],
    "hidden_activation": ["gelu", "gelu_pytorch_tanh", "silu"],
    "inner_group_num": [1, 2],
    "intermediate_multiple_size": [0.5, 1.5, 4],
    "intermediate_size": [20, 37, 64],
    "layer_norm_elementwise_affine": [true, false],
    "local_attention": [4, 8],
    "max_window_layers": [0, 1, 2],
    "mlp_bias": [true, false],
    "multi_query": [true, false],
    "n_inner": [null, 20, 64],
    "new_decoder_architecture": [true, false],
    "no_rope_layers": [null, [1, 0], [0, 1], [0, 0]],
    "norm_bias": [true, false],
    "norm_rel_ebd": ["none", "layer_norm"],
    "norm_topk_prob": [true, false],
    "num_experts_per_tok": [1, 2],
    "num_key_value_heads": [1, 2, 4],
    "num_random_blocks": [0, 1, 3],
    "parallel_attn": [true, false],
    "partial_rotary_factor": [0.5, 1.0],
    "pos_att_type": [["c2p"], ["p2c"], ["c2p", "p2c"], []],
    "position_biased_input": [true, false],
    "position_buckets": [-1, 4, 8],
    "pre_norm": [true, false],
    "qk_layernorm": [true, false],
    "qkv_bias": [true, false],
    "query_pre_attn_scalar": [8, 20],
    "relative_attention": [true, false],
    "rescale_embeddings": [true, false],
    "rope_scaling": [null,
      {"rope_type": "default"},
      {"rope_type": "linear", "factor": 4.0},
      {"rope_type": "dynamic", "factor": 2.0},
      {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
      {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
       "original_max_position_embeddings": 16}],
    "rotary_pct": [0.25, 0.5, 1.0],
    "scale_attn_by_inverse_layer_idx": [true, false],
    "scale_attn_weights": [true, false],
    "share_att_key": [true, false],
    "shared_intermediate_size": [16, 24],
    "sliding_window": [null, 3, 5],
    "tie_word_embeddings": [true, false],
    "token_dropout": [true, false],
    "type_vocab_size": [0, 1, 2],
    "use_bias": [true, false],
    "use_parallel_residual": [true, false],
    "use_qk_norm": [true, false],
    "use_qkv_bias": [true, false],
    "use_sliding_window": [true, false]
  })";

/// Each flag keeps its value half the time, and one config in four keeps all: types that refuse
/// much are tried, too.
Json mutated(Json config, std::mt19937& random) {
  const bool keeps_all = random() % 4 == 0;
  static const Json alternatives = Json::parse(kAlternatives);
  for (const auto& [key, values] : alternatives.items()) {
    const bool is_chosen = !keeps_all && random() % 2 == 0 && config.contains(key);
    // A few keys are a switch in one type and a name in another.
    if (is_chosen && config[key].is_boolean() == values.front().is_boolean()) {
      config[key] = values[random() % values.size()];
    }
  }
  config.erase("dtype");
  config.erase("torch_dtype");
  config.erase("quantization_config");  // how weights are stored; these are plain
  return config;
}

std::vector<std::filesystem::path> configs_of(std::string_view model_type) {
  std::vector<std::filesystem::path> found;
  const auto root = tests_dir() / "fixtures";
  for (const auto& fixture : std::filesystem::directory_iterator(root)) {
    const auto checkpoint = fixture.path() / "checkpoint";
    if (std::filesystem::exists(checkpoint / "config.json") &&
        ModelConfig::load(checkpoint).model_type() == model_type) {
      found.push_back(checkpoint / "config.json");
    }
  }
  std::ranges::sort(found);
  return found;
}

/// Export and verify a config with random weights.
void check_config(const std::string& config, const std::string& task) {
  const testing::TempDir place;
  const auto source = place.path() / "checkpoint";
  std::filesystem::create_directories(source);
  const auto tensors = testing::implied_tensors(config, task, source);
  testing::write_checkpoint(config, tensors, testing::Fill::kRandom, source);

  ExportOptions options;
  options.task = task;
  options.source_uri = source.string();
  options.export_timestamp = "2026-01-01T00:00:00Z";
  options.verify = testing::runtime() == nullptr ? VerifyLevel::kStructure : VerifyLevel::kFull;
  ExtractedArchive files;
  files.model_root = source;
  files.files = {"config.json", "model.safetensors"};
  const Checkpoint checkpoint{files, ModelConfig::load(source), WeightFiles::open(source)};
  ExportPlan plan = plan_export(checkpoint, options);
  testing::NullObserver observer;
  StageScope scope(Stage::kExport, observer);
  write_export(plan, checkpoint, options, place.path() / "out", scope);
  verify(plan.verify, testing::runtime(), scope);
}

class RandomConfig : public ::testing::TestWithParam<const Architecture*> {};

TEST_P(RandomConfig, WhatBuildsAgreesWithItself) {
  const Architecture& architecture = *GetParam();
  const auto seeds = configs_of(architecture.model_type);
  ASSERT_FALSE(seeds.empty());
  int accepted = 0;
  const bool holds = rc::check(std::string(architecture.model_type), [&] {
    std::mt19937 random(*rc::gen::noShrink(rc::gen::inRange<std::uint32_t>(0, 1U << 31U)));
    const auto& seed = seeds[random() % seeds.size()];
    const Json config = mutated(Json::parse(testing::read_text(seed)), random);
    const std::string task(architecture.tasks[random() % architecture.tasks.size()]);
    RC_PRE(task != "sentence-similarity");  // needs modules.json, which no config implies
    try {
      check_config(config.dump(), task);
      ++accepted;
    } catch (const Error& error) {
      // Refusing is right; anything else is a bug of the builder.
      if (error.code() != ErrorCode::kUnsupportedModel) {
        RC_FAIL(fmt::format(
            "{}: {}\n{} {}", describe(error.code()).name, error.message(), task, config.dump()));
      }
    }
  });
  EXPECT_TRUE(holds);
  EXPECT_GT(accepted, 0) << "no random config was accepted: the flags are too strange";
}

INSTANTIATE_TEST_SUITE_P(Architectures,
                         RandomConfig,
                         ::testing::ValuesIn(architectures()),
                         [](const auto& param_info) {
                           std::string name(param_info.param->model_type);
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace onnxferry
