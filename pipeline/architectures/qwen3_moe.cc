// Qwen3-MoE (Qwen team 2025): Qwen3 with a mixture of experts in some or all layers.
//
// Peculiar: decoder_sparse_step and mlp_only_layers leave layers dense; norm_topk_prob decides
// whether the chosen experts' shares sum to 1; sliding windows, where switched on, are in every
// layer. Source: transformers/models/qwen3_moe/modeling_qwen3_moe.py.

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_qwen3_moe(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 151936,
                                 .hidden_size = 2048,
                                 .intermediate_size = 6144,
                                 .num_hidden_layers = 24,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 4});
  spec.ort_model_reads_key_value_heads = true;
  spec.attention.qk_norm = QkNorm::kPerHead;
  spec.attention.qkv_bias = spec.attention.output_bias =
      config.boolean("attention_bias", false) ? Bias::kYes : Bias::kNo;
  read_common_window(config, spec);

  const ExpertCounts counts =
      read_expert_counts(config, "num_experts", "num_experts_per_tok", {128, 8});
  MixtureSpec mixture = mixture_for(spec, counts, config.dimension("moe_intermediate_size", 768));
  mixture.router.scores = read_softmax_scores(config);
  use_mixture(spec, std::move(mixture), read_sparse_step(config));
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kQwen3Moe;
const Architecture kQwen3Moe{.model_type = "qwen3_moe",
                             .tasks = kAllDecoderTasks,
                             .ignored_tensors = kDecoderIgnoredTensors,
                             .build = build_qwen3_moe};

}  // namespace onnxferry
