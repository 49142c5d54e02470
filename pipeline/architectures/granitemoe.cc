// Granite MoE (IBM 2024) and its variant with a shared feed-forward block: Granite with a mixture
// of experts in every layer.
//
// Peculiar: four multipliers as in Granite; all experts' matrices of a layer are one tensor
// [experts, out, in], gate and up halves of the same; the shared block stands beside the mixture,
// not in it. Source: transformers/models/granitemoe/modeling_granitemoe.py,
// transformers/models/granitemoeshared/modeling_granitemoeshared.py.

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
  if (config.text("position_embedding_type", "rope") != "rope") {
    config.refuse("position_embedding_type", "only rope is implemented");
  }
  return spec;
}

std::vector<BuiltGraph> build_granitemoe(const BuildContext& context) {
  DecoderSpec spec = read_granitemoe(context.config);
  use_mixture(spec, read_mixture(context.config, spec), [](std::int64_t) { return true; });
  return build_decoder(context, spec);
}

std::vector<BuiltGraph> build_granitemoeshared(const BuildContext& context) {
  DecoderSpec spec = read_granitemoe(context.config);
  MixtureSpec mixture = read_mixture(context.config, spec);
  const std::int64_t size = context.config.integer("shared_intermediate_size", 0);
  if (size > 0) {
    FeedForwardSpec shared = spec.mlp;
    shared.form = FeedForwardSpec::Form::kGatedFused;
    shared.intermediate_size = size;
    shared.up_name = "input_linear";
    shared.down_name = "output_linear";
    mixture.shared = [shared](GraphBuilder& g, const Value& x, const std::string& key) {
      const auto scope = g.scope("shared_mlp");
      const std::string layer = key.substr(0, key.rfind('.'));
      return feed_forward(g, x, shared, layer + ".shared_mlp");
    };
  }
  use_mixture(spec, std::move(mixture), [](std::int64_t) { return true; });
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kGraniteMoe;
const Architecture kGraniteMoe{.model_type = "granitemoe",
                               .tasks = kGenerationTasks,
                               .ignored_tensors = kDecoderIgnoredTensors,
                               .build = build_granitemoe};

extern const Architecture kGraniteMoeShared;
const Architecture kGraniteMoeShared{.model_type = "granitemoeshared",
                                     .tasks = kGenerationTasks,
                                     .ignored_tensors = kDecoderIgnoredTensors,
                                     .build = build_granitemoeshared};

}  // namespace onnxferry
