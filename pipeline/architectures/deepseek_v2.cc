// DeepSeek-V2 (DeepSeek 2024): latent attention and a mixture of experts behind the first layers.
//
// Peculiar: the rotary pairs are 2i and 2i + 1; experts are chosen by softmax scores, within the
// best groups or among all (topk_method); norm_topk_prob and yarn's mscale_all_dim are not read by
// transformers' class. Source: transformers/models/deepseek_v2/modeling_deepseek_v2.py.

#include "pipeline/architectures/deepseek.h"
#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

MixtureSpec read_mixture(const ModelConfig& config, const DecoderSpec& spec) {
  expect_text(config, "scoring_func", "softmax");
  const ExpertCounts counts =
      read_expert_counts(config, "n_routed_experts", "num_experts_per_tok", {64, 0});
  const std::int64_t size = config.dimension("moe_intermediate_size", 1407);
  MixtureSpec mixture = mixture_for(spec, counts, size);
  RouterSpec& router = mixture.router;
  router.scale = config.number("routed_scaling_factor", 1.0);
  const std::string method = config.text("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    router.num_groups = config.dimension("n_group");
    router.chosen_groups = config.dimension("topk_group");
    if (counts.count % router.num_groups != 0) {
      config.refuse("n_group", "it must divide n_routed_experts");
    }
  } else if (method != "greedy") {
    config.refuse("topk_method", "known methods are greedy and group_limited_greedy");
  } else {
    static_cast<void>(config.find_integer("n_group"));  // one group that always wins
    static_cast<void>(config.find_integer("topk_group"));
  }
  FeedForwardSpec shared = spec.mlp;
  shared.intermediate_size = size * config.dimension("n_shared_experts", 2);
  mixture.shared = shared_expert(shared, "shared_experts");
  return mixture;
}

std::vector<BuiltGraph> build_deepseek_v2(const BuildContext& context) {
  const ModelConfig& config = context.config;
  refuse_float8(config);
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32000,
                                 .hidden_size = 4096,
                                 .intermediate_size = 11008,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .head_dim = read_rotary_dim(config)});
  spec.mlp.bias = config.boolean("mlp_bias", false) ? Bias::kYes : Bias::kNo;
  spec.rotary_layout = RotaryLayout::kPairs;
  use_latent_attention(config, spec, 1.0);
  MixtureSpec mixture = read_mixture(config, spec);
  const std::int64_t first = config.integer("first_k_dense_replace", 0);
  use_mixture(spec, std::move(mixture), [first](std::int64_t layer) { return layer >= first; });
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kDeepseekV2;
const Architecture kDeepseekV2{.model_type = "deepseek_v2",
                               .tasks = kDecoderTasks,
                               .ignored_tensors = kDecoderIgnoredTensors,
                               .build = build_deepseek_v2};

}  // namespace onnxferry
