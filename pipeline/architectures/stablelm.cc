// StableLM 3B and StableLM 2 (Stability AI 2023, 2024): Llama with LayerNorm, rotary positions in a
// quarter of each head and optional biases on q, k and v.
//
// Peculiar: qk_layernorm (the 12B model) gives every head a LayerNorm module of its own, without
// bias; use_parallel_residual feeds attention and feed-forward from one norm. Source:
// transformers/models/stablelm/modeling_stablelm.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_stablelm(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 50304,
                                 .hidden_size = 2560,
                                 .intermediate_size = 6912,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 32,
                                 .partial_rotary_factor = 0.25});
  if (spec.attention.head_dim * spec.attention.num_heads != spec.hidden_size) {
    config.refuse("head_dim", "transformers computes with hidden_size / num_attention_heads");
  }
  spec.norm = {NormKind::kLayer, config.number("layer_norm_eps", 1e-5)};
  spec.ort_model_reads_key_value_heads = true;
  if (config.boolean("use_qkv_bias", false)) {
    spec.attention.qkv_bias = Bias::kYes;
  }
  if (config.boolean("qk_layernorm", false)) {
    spec.attention.qk_norm = QkNorm::kModulePerHead;
    spec.attention.qk_norm_spec = {NormKind::kLayerWithoutBias, spec.norm.epsilon};
    spec.attention.query_norm_name = "q_layernorm";
    spec.attention.key_norm_name = "k_layernorm";
  }
  if (config.boolean("use_parallel_residual", false)) {
    spec.residual = Residual::kParallel;
    spec.names.pre_mlp_norm = "";
  }
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kStablelm;
const Architecture kStablelm{.model_type = "stablelm",
                             .tasks = kTokenDecoderTasks,
                             .ignored_tensors = kDecoderIgnoredTensors,
                             .build = build_stablelm};

}  // namespace onnxferry
