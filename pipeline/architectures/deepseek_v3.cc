// DeepSeek-V3 and R1 (DeepSeek 2024), Moonlight and Kimi: latent attention and a mixture of experts
// behind the first layers.
//
// Peculiar: experts are chosen by sigmoid scores plus a correction, and only within the best
// groups; the rotary pairs 2i and 2i + 1 come out as halves (rope_interleave); yarn's
// mscale_all_dim scales the scores, squared. Layer 61 of the published checkpoint predicts further
// tokens and is left out, as in transformers. Source:
// transformers/models/deepseek_v3/modeling_deepseek_v3.py.

#include <cmath>

#include "pipeline/architectures/deepseek.h"
#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

double score_factor(const ModelConfig& config) {
  const auto scaling = config.find_object("rope_scaling");
  if (!scaling) {
    return 1.0;
  }
  if (!scaling->has("factor")) {
    scaling->refuse("factor", "transformers' class reads it whatever the rope type");
  }
  const double all_dim = scaling->number("mscale_all_dim", 0);
  const double factor = scaling->number("factor");
  const double mscale = factor <= 1 ? 1.0 : 0.1 * all_dim * std::log(factor) + 1.0;
  return all_dim != 0 ? mscale * mscale : 1.0;
}

std::vector<BuiltGraph> build_deepseek_v3(const BuildContext& context) {
  const ModelConfig& config = context.config;
  refuse_float8(config);
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 129280,
                                 .hidden_size = 7168,
                                 .intermediate_size = 18432,
                                 .num_hidden_layers = 61,
                                 .num_attention_heads = 128,
                                 .head_dim = read_rotary_dim(config)});
  spec.ort_model_reads_key_value_heads = true;
  spec.ort_model_reads_head_dim = true;
  spec.rotary_layout = config.boolean("rope_interleave", true) ? RotaryLayout::kPairsToHalves
                                                               : RotaryLayout::kHalves;
  use_latent_attention(config, spec, score_factor(config));
  use_sigmoid_mixture(config,
                      spec,
                      {.moe_intermediate_size = 2048,
                       .n_routed_experts = 256,
                       .num_experts_per_tok = 8,
                       .n_group = 8,
                       .topk_group = 4,
                       .first_k_dense_replace = 3,
                       .routed_scaling_factor = 2.5});
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {
    "lm_head.weight", "score.*", "*.rotary_emb.inv_freq", "model.layers.61.*"};

}  // namespace

extern const Architecture kDeepseekV3;
const Architecture kDeepseekV3{.model_type = "deepseek_v3",
                               .tasks = kTokenDecoderTasks,
                               .ignored_tensors = kIgnoredTensors,
                               .build = build_deepseek_v3};

}  // namespace onnxferry
