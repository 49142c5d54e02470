// GLM-4 in transformers' own classes (Zhipu 2024), and GLM-4-0414 (2025): Llama with rotary pairs
// on half of each head, one matrix for gate and up, biases on q, k and v.
//
// Peculiar: glm4 (0414) has norms before and behind both blocks. Source:
// transformers/models/glm/modeling_glm.py, transformers/models/glm4/modeling_glm4.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

DecoderSpec read_glm(const ModelConfig& config) {
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 151552,
                                 .hidden_size = 4096,
                                 .intermediate_size = 13696,
                                 .num_hidden_layers = 40,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 2,
                                 .head_dim = 128,
                                 .rms_norm_eps = 1.5625e-7,
                                 .partial_rotary_factor = 0.5,
                                 .pad_token_id = 151329});
  spec.attention.qkv_bias = config.boolean("attention_bias", true) ? Bias::kYes : Bias::kNo;
  spec.rotary_layout = RotaryLayout::kPairs;
  spec.mlp.form = FeedForwardSpec::Form::kGatedFused;
  spec.mlp.up_name = "gate_up_proj";
  return spec;
}

std::vector<BuiltGraph> build_glm(const BuildContext& context) {
  DecoderSpec spec = read_glm(context.config);
  spec.ort_model_reads_key_value_heads = true;
  return build_decoder(context, spec);
}

std::vector<BuiltGraph> build_glm4(const BuildContext& context) {
  DecoderSpec spec = read_glm(context.config);
  spec.names.post_attention_norm = "post_self_attn_layernorm";
  spec.names.post_mlp_norm = "post_mlp_layernorm";
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kGlm;
const Architecture kGlm{.model_type = "glm",
                        .tasks = kTokenDecoderTasks,
                        .ignored_tensors = kDecoderIgnoredTensors,
                        .build = build_glm};

extern const Architecture kGlm4;
const Architecture kGlm4{.model_type = "glm4",
                         .tasks = kTokenDecoderTasks,
                         .ignored_tensors = kDecoderIgnoredTensors,
                         .build = build_glm4};

}  // namespace onnxferry
