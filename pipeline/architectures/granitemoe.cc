// Granite MoE (IBM 2024) and its variants with a shared feed-forward block: Granite with a mixture
// of experts in every layer; Granite 4 (2025) without its Mamba layers.
//
// Peculiar: four multipliers as in Granite; all experts' matrices of a layer are one tensor
// [experts, out, in], gate and up halves of the same; the shared block stands beside the mixture,
// not in it, and in Granite 4 may stand alone. Granite 4 has no positions unless
// position_embedding_type is rope. Source: transformers/models/granitemoe/modeling_granitemoe.py,
// transformers/models/granitemoeshared/modeling_granitemoeshared.py,
// transformers/models/granitemoehybrid/modeling_granitemoehybrid.py.

#include <algorithm>

#include <fmt/format.h>

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

/// Rows [first, first + out) of one expert's matrix [rows, in] in a stacked tensor, transposed.
Value expert_matrix(GraphBuilder& g,
                    const TensorInfo& stack,
                    std::int64_t expert,
                    std::int64_t first,
                    std::int64_t out) {
  const std::int64_t rows = stack.shape[1];
  const std::int64_t in = stack.shape[2];
  return g.initializer(
      fmt::format("{}.{}.{}_t", stack.name, expert, first),
      cast(view(stack, (expert * rows + first) * in, {in, out}, {1, in}), Dtype::kFloat32));
}

MixtureSpec read_mixture(const ModelConfig& config, const DecoderSpec& spec) {
  const ExpertCounts counts =
      read_expert_counts(config, "num_local_experts", "num_experts_per_tok", {8, 2});
  const std::int64_t size = spec.mlp.intermediate_size;
  MixtureSpec mixture = mixture_for(spec, counts, size);
  mixture.router.name = "router.layer";
  mixture.router.scores = RouterSpec::Scores::kSoftmaxOfChosen;
  mixture.experts.weights = [count = counts.count, hidden = spec.hidden_size, size](
                                GraphBuilder& g, const std::string& key, std::int64_t expert) {
    const TensorInfo& input = g.tensor(key + ".input_linear.weight", {count, 2 * size, hidden});
    const TensorInfo& output = g.tensor(key + ".output_linear.weight", {count, hidden, size});
    return ExpertWeights{.gate = expert_matrix(g, input, expert, 0, size),
                         .up = expert_matrix(g, input, expert, size, size),
                         .down = expert_matrix(g, output, expert, 0, hidden)};
  };
  return mixture;
}

DecoderSpec read_granitemoe(const ModelConfig& config) {
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32000,
                                 .hidden_size = 4096,
                                 .intermediate_size = 11008,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32});
  spec.names.mlp = "block_sparse_moe";
  spec.attention.qkv_bias = spec.attention.output_bias =
      config.boolean("attention_bias", false) ? Bias::kYes : Bias::kNo;
  spec.attention.scale = config.number("attention_multiplier", 1.0);
  spec.embedding_multiplier = config.number("embedding_multiplier", 1.0);
  spec.residual_multiplier = config.number("residual_multiplier", 1.0);
  const double scaling = config.number("logits_scaling", 1.0);
  if (scaling == 0) {
    config.refuse("logits_scaling", "logits are divided by it");
  }
  spec.logits_multiplier = 1 / scaling;
  return spec;
}

void expect_rope(const ModelConfig& config) {
  if (config.text("position_embedding_type", "rope") != "rope") {
    config.refuse("position_embedding_type", "only rope is implemented");
  }
}

/// The block beside the mixture, below "shared_mlp".
FeedForwardSpec shared_block(const DecoderSpec& spec, std::int64_t size) {
  FeedForwardSpec shared = spec.mlp;
  shared.form = FeedForwardSpec::Form::kGatedFused;
  shared.intermediate_size = size;
  shared.up_name = "input_linear";
  shared.down_name = "output_linear";
  return shared;
}

void use_shared_mixture(const ModelConfig& config, DecoderSpec& spec, std::int64_t shared_size) {
  MixtureSpec mixture = read_mixture(config, spec);
  if (shared_size > 0) {
    mixture.shared = [shared = shared_block(spec, shared_size)](
                         GraphBuilder& g, const Value& x, const std::string& key) {
      const auto scope = g.scope("shared_mlp");
      const std::string layer = key.substr(0, key.rfind('.'));
      return feed_forward(g, x, shared, layer + ".shared_mlp");
    };
  }
  use_mixture(spec, std::move(mixture), [](std::int64_t) { return true; });
}

std::vector<BuiltGraph> build_granitemoe(const BuildContext& context) {
  DecoderSpec spec = read_granitemoe(context.config);
  expect_rope(context.config);
  use_mixture(spec, read_mixture(context.config, spec), [](std::int64_t) { return true; });
  return build_decoder(context, spec);
}

std::vector<BuiltGraph> build_granitemoeshared(const BuildContext& context) {
  DecoderSpec spec = read_granitemoe(context.config);
  expect_rope(context.config);
  use_shared_mixture(context.config, spec, context.config.integer("shared_intermediate_size", 0));
  return build_decoder(context, spec);
}

// Every layer has its kind in layer_types, and without that key all are Mamba's.
void expect_attention(const ModelConfig& config, const DecoderSpec& spec) {
  const auto types = config.find_texts("layer_types");
  const auto is_attention = [](const std::string& type) { return type == "attention"; };
  if (!types || !std::ranges::all_of(*types, is_attention)) {
    config.refuse("layer_types", "only attention layers are implemented, no Mamba layers");
  }
  if (types->size() != spec.layers.size()) {
    config.refuse("layer_types", "expected one entry per layer");
  }
  for (const auto* const key : {"mamba_chunk_size",
                                "mamba_conv_bias",
                                "mamba_d_conv",
                                "mamba_d_head",
                                "mamba_d_state",
                                "mamba_expand",
                                "mamba_n_groups",
                                "mamba_n_heads",
                                "mamba_proj_bias"}) {
    config.disregard(key);
  }
}

std::vector<BuiltGraph> build_granitemoehybrid(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_granitemoe(config);
  expect_attention(config, spec);
  const auto positions = config.find_text("position_embedding_type");
  if (positions != "rope") {  // any other text means the same to transformers
    spec.ropes.clear();
  }
  const std::int64_t shared_size = config.dimension("shared_intermediate_size", 1024);
  if (config.integer("num_local_experts", 8) > 0) {
    use_shared_mixture(config, spec, shared_size);
  } else {
    static_cast<void>(config.find_integer("num_experts_per_tok"));
    spec.names.mlp = "shared_mlp";
    spec.mlp = shared_block(spec, shared_size);
  }
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kGraniteMoe;
const Architecture kGraniteMoe{.model_type = "granitemoe",
                               .tasks = kGenerationTasks,
                               .ignored_tensors = kDecoderIgnoredTensors,
                               .build = build_granitemoe};

extern const Architecture kGraniteMoeHybrid;
const Architecture kGraniteMoeHybrid{.model_type = "granitemoehybrid",
                                     .tasks = kGenerationTasks,
                                     .ignored_tensors = kDecoderIgnoredTensors,
                                     .build = build_granitemoehybrid};

extern const Architecture kGraniteMoeShared;
const Architecture kGraniteMoeShared{.model_type = "granitemoeshared",
                                     .tasks = kGenerationTasks,
                                     .ignored_tensors = kDecoderIgnoredTensors,
                                     .build = build_granitemoeshared};

}  // namespace onnxferry
