#include "pipeline/architectures/mixture_layers.h"

#include <algorithm>

#include <fmt/format.h>

namespace onnxferry {
namespace {

std::int64_t required_or(const ModelConfig& config,
                         std::string_view key,
                         std::int64_t when_absent) {
  return when_absent > 0 ? config.dimension(key, when_absent) : config.dimension(key);
}

}  // namespace

ExpertCounts read_expert_counts(const ModelConfig& config,
                                std::string_view count_key,
                                std::string_view chosen_key,
                                const ExpertCounts& defaults) {
  const ExpertCounts counts{.count = required_or(config, count_key, defaults.count),
                            .chosen = required_or(config, chosen_key, defaults.chosen)};
  if (counts.chosen > counts.count) {
    config.refuse(chosen_key, fmt::format("there are {} experts to choose from", counts.count));
  }
  return counts;
}

MixtureSpec mixture_for(const DecoderSpec& spec,
                        const ExpertCounts& counts,
                        std::int64_t intermediate_size) {
  MixtureSpec mixture;
  mixture.hidden_size = spec.hidden_size;
  mixture.experts.count = counts.count;
  mixture.experts.chosen = counts.chosen;
  mixture.experts.intermediate_size = intermediate_size;
  mixture.experts.activation = spec.mlp.activation;
  mixture.experts.bias = spec.mlp.bias;
  return mixture;
}

void use_mixture(DecoderSpec& spec, MixtureSpec mixture, IsSparse is_sparse) {
  spec.feed_forward =
      [mixture = std::move(mixture), dense = spec.mlp, is_sparse = std::move(is_sparse)](
          GraphBuilder& g, const Value& x, std::size_t layer, const std::string& key) {
        return is_sparse(static_cast<std::int64_t>(layer)) ? mixture_of_experts(g, x, mixture, key)
                                                           : feed_forward(g, x, dense, key);
      };
}

IsSparse read_sparse_step(const ModelConfig& config) {
  const std::int64_t step = config.dimension("decoder_sparse_step", 1);
  const auto dense = config.find_numbers("mlp_only_layers").value_or(std::vector<double>{});
  return [step, dense](std::int64_t layer) {
    return (layer + 1) % step == 0 &&
           std::ranges::find(dense, static_cast<double>(layer)) == dense.end();
  };
}

RouterSpec::Scores read_softmax_scores(const ModelConfig& config) {
  return config.boolean("norm_topk_prob", false) ? RouterSpec::Scores::kSoftmaxOfChosen
                                                 : RouterSpec::Scores::kSoftmax;
}

void read_common_window(const ModelConfig& config, DecoderSpec& spec) {
  const auto window = config.nullable_integer("sliding_window", 4096);
  static_cast<void>(config.find_integer("max_window_layers"));  // eager attention ignores it
  const bool slides = config.boolean("use_sliding_window", false) && window;
  for (DecoderLayer& layer : spec.layers) {
    layer.window = slides ? *window : 0;
  }
  if (slides && *window < 1) {
    config.refuse("sliding_window", "a sliding layer needs a positive window");
  }
}

std::function<Value(GraphBuilder&, const Value&, const std::string&)> shared_expert(
    FeedForwardSpec mlp, std::string_view name, std::string_view gate_name) {
  return [mlp, name, gate_name](GraphBuilder& g, const Value& x, const std::string& key) {
    const Value result = [&] {
      const auto scope = g.scope(name);
      return feed_forward(g, x, mlp, fmt::format("{}.{}", key, name));
    }();
    if (gate_name.empty()) {
      return result;
    }
    const auto scope = g.scope(gate_name);
    const std::string gate_key = fmt::format("{}.{}", key, gate_name);
    return g.Mul(g.Sigmoid(linear(g, x, gate_key, mlp.hidden_size, 1, Bias::kNo)), result);
  };
}

void use_sigmoid_mixture(const ModelConfig& config,
                         DecoderSpec& spec,
                         const SigmoidMixtureDefaults& defaults) {
  expect_text(config, "scoring_func", "sigmoid");
  expect_text(config, "topk_method", "noaux_tc");
  const ExpertCounts counts =
      read_expert_counts(config,
                         "n_routed_experts",
                         "num_experts_per_tok",
                         {defaults.n_routed_experts, defaults.num_experts_per_tok});
  const std::int64_t size =
      required_or(config, "moe_intermediate_size", defaults.moe_intermediate_size);
  MixtureSpec mixture = mixture_for(spec, counts, size);
  RouterSpec& router = mixture.router;
  router.scores = RouterSpec::Scores::kSigmoid;
  router.correction_name = "gate.e_score_correction_bias";
  router.normalize = config.boolean("norm_topk_prob", defaults.norm_topk_prob)
                         ? RouterSpec::Normalize::kBySum
                         : RouterSpec::Normalize::kNo;
  router.least_sum = 1e-20;
  router.scale = config.number("routed_scaling_factor", defaults.routed_scaling_factor);
  router.num_groups = config.dimension("n_group", defaults.n_group);
  router.chosen_groups = config.dimension("topk_group", defaults.topk_group);
  router.group_score = RouterSpec::GroupScore::kSumOfBestTwo;
  if (counts.count % router.num_groups != 0 || counts.count / router.num_groups < 2) {
    config.refuse("n_group", "expected groups of the same size, two experts or more");
  }
  FeedForwardSpec shared = spec.mlp;
  shared.intermediate_size =
      size * required_or(config, "n_shared_experts", defaults.n_shared_experts);
  mixture.shared = shared_expert(shared, "shared_experts");
  const std::int64_t first =
      config.integer("first_k_dense_replace", defaults.first_k_dense_replace);
  use_mixture(spec, std::move(mixture), [first](std::int64_t layer) { return layer >= first; });
}

void expect_text(const ModelConfig& config, std::string_view key, std::string_view value) {
  if (config.text(key, value) != value) {
    config.refuse(key, fmt::format("transformers' model stands for {} whatever this says", value));
  }
}

}  // namespace onnxferry
