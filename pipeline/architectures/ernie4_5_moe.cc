// ERNIE 4.5 with experts (Baidu 2025): ERNIE 4.5 with a mixture of experts in a range of layers.
//
// Peculiar: use_bias puts biases everywhere but in the router; rotary pairs are 2i and 2i + 1;
// experts are chosen by softmax shares plus a correction; the mixture is in every
// moe_layer_interval-th layer between a first and a last one. Source:
// transformers/models/ernie4_5_moe/modeling_ernie4_5_moe.py.

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

MixtureSpec read_mixture(const ModelConfig& config, const DecoderSpec& spec) {
  const ExpertCounts counts = read_expert_counts(config, "moe_num_experts", "moe_k", {64, 6});
  const std::int64_t size = config.dimension("moe_intermediate_size", 1536);
  MixtureSpec mixture = mixture_for(spec, counts, size);
  mixture.router.correction_name = "moe_statics.e_score_correction_bias";
  mixture.router.normalize = RouterSpec::Normalize::kBySum;
  mixture.router.least_sum = config.number("moe_norm_min", 1e-12);
  const std::int64_t shared_experts = config.integer("moe_num_shared_experts", 2);
  if (shared_experts > 0) {
    FeedForwardSpec shared = spec.mlp;
    shared.intermediate_size = size * shared_experts;
    mixture.shared = shared_expert(shared, "shared_experts");
  }
  return mixture;
}

std::vector<BuiltGraph> build_ernie4_5_moe(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 103424,
                                 .hidden_size = 2560,
                                 .intermediate_size = 12288,
                                 .num_hidden_layers = 28,
                                 .num_attention_heads = 20,
                                 .num_key_value_heads = 4,
                                 .rms_norm_eps = 1e-5,
                                 .rope_theta = 500000.0,
                                 .tie_word_embeddings = true});
  spec.rotary_layout = RotaryLayout::kPairs;
  const Bias bias = config.boolean("use_bias", false) ? Bias::kYes : Bias::kNo;
  spec.attention.qkv_bias = spec.attention.output_bias = spec.mlp.bias = spec.head_bias = bias;

  const auto num_layers = static_cast<std::int64_t>(spec.layers.size());
  const std::int64_t first = config.integer("moe_layer_start_index", 1);
  const std::int64_t end = config.integer("moe_layer_end_index", -1);
  const std::int64_t last = end == -1 ? num_layers - 1 : end;
  const std::int64_t interval = config.dimension("moe_layer_interval", 1);
  use_mixture(spec, read_mixture(config, spec), [=](std::int64_t layer) {
    return (layer + 1) % interval == 0 && layer >= first && layer <= last;
  });
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {
    "lm_head.weight", "lm_head.bias", "*.rotary_emb.inv_freq", "*mtp*"};

}  // namespace

extern const Architecture kErnie4_5Moe;
const Architecture kErnie4_5Moe{.model_type = "ernie4_5_moe",
                                .tasks = kGenerationTasks,
                                .ignored_tensors = kIgnoredTensors,
                                .build = build_ernie4_5_moe};

}  // namespace onnxferry
