// Phi-3.5-MoE (Microsoft 2024): Mixtral with layer norms and the SparseMixer-v2 router.
//
// Peculiar: the two experts are chosen one after the other; each one's weight is its share among
// the experts whose logits lie within 2 · router_jitter_noise of the best left, relative to the
// larger of their size and the best. lm_head may have a bias. With longrope, short_mscale and
// long_mscale take the place of the computed attention factor; only equal ones are implemented.
// Source: transformers/models/phimoe/modeling_phimoe.py.

#include <numeric>

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

/// The best expert's share [N, 1] among those near it. `scores` [N, E] without the experts that
/// `is_out` (may be null) takes away; `best` [N, 1] is the largest left.
Value share_of_best(
    GraphBuilder& g, const Value& scores, const Value& best, const Value* is_out, float reach) {
  const Value size = g.Max(g.Max(scores, g.Neg(scores)), best);
  const Value distance = g.Sub(best, scores);
  const Value is_far = g.Greater(g.Div(distance, size), g.float_scalar(reach));
  Value shares = g.Where(is_far, g.float_scalar(0.0F), g.Exp(g.Neg(distance)));
  if (is_out != nullptr) {
    shares = g.Where(*is_out, g.float_scalar(0.0F), shares);
  }
  return g.Div(g.float_scalar(1.0F), g.ReduceSum(shares, -1, KeepDims::kYes));
}

Routing sparse_mixer(GraphBuilder& g, const Value& logits, std::int64_t experts, float reach) {
  const TopValues best = g.TopK(logits, g.ints({2}), TopOrder::kLargestFirst);
  const auto [first, second] = g.Split(best.values, -1);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(experts));
  std::iota(ids.begin(), ids.end(), 0);
  const Value is_first = g.Equal(g.Gather(best.indices, g.ints({0}), 1), g.ints(ids));
  return {best.indices,
          g.Concat({share_of_best(g, logits, first, nullptr, reach),
                    share_of_best(g, logits, second, &is_first, reach)},
                   -1)};
}

void read_longrope_factors(const ModelConfig& config, DecoderSpec& spec) {
  const auto scaling = config.find_object("rope_scaling");
  if (!scaling) {
    return;
  }
  if (spec.ropes.front().kind != RopeConfig::Kind::kLongRope) {
    config.refuse("rope_scaling", "this model type has longrope or none");
  }
  const double factor = scaling->number("short_mscale");
  if (scaling->number("long_mscale") != factor) {
    scaling->refuse("long_mscale", "only the value of short_mscale is implemented");
  }
  spec.ropes.front().attention_factor = factor;
  if (scaling->integer("original_max_position_embeddings") !=
      config.integer("original_max_position_embeddings")) {
    config.refuse("original_max_position_embeddings", "rope_scaling has another value for it");
  }
}

std::vector<BuiltGraph> build_phimoe(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32064,
                                 .hidden_size = 4096,
                                 .intermediate_size = 6400,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 8,
                                 .rms_norm_eps = 1e-5,
                                 .rope_theta = 1e6});
  spec.names.mlp = "block_sparse_moe";
  spec.norm.kind = NormKind::kLayer;
  spec.attention.qkv_bias = spec.attention.output_bias =
      config.boolean("attention_bias", false) ? Bias::kYes : Bias::kNo;
  spec.head_bias = config.boolean("lm_head_bias", false) ? Bias::kYes : Bias::kNo;
  read_longrope_factors(config, spec);
  const auto window = config.find_integer("sliding_window");
  read_windows(config, spec, window, [&](std::int64_t) { return window.has_value(); });

  const ExpertCounts counts =
      read_expert_counts(config, "num_local_experts", "num_experts_per_tok", {16, 2});
  if (counts.chosen != 2) {
    config.refuse("num_experts_per_tok", "the router chooses 2");
  }
  MixtureSpec mixture = mixture_for(spec, counts, spec.mlp.intermediate_size);
  const auto reach = static_cast<float>(2 * config.number("router_jitter_noise", 0.01));
  mixture.router.choose = [count = counts.count, reach](GraphBuilder& g, const Value& logits) {
    return sparse_mixer(g, logits, count, reach);
  };
  mixture.experts.gate_name = "w1";
  mixture.experts.up_name = "w3";
  mixture.experts.down_name = "w2";
  use_mixture(spec, std::move(mixture), [](std::int64_t) { return true; });
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {
    "lm_head.weight", "lm_head.bias", "score.*", "*.rotary_emb.inv_freq"};

}  // namespace

extern const Architecture kPhimoe;
const Architecture kPhimoe{.model_type = "phimoe",
                           .tasks = kDecoderTasks,
                           .ignored_tensors = kIgnoredTensors,
                           .build = build_phimoe};

}  // namespace onnxferry
