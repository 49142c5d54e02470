// Phi-1, Phi-1.5 and Phi-2 (Microsoft 2023): attention and feed-forward in parallel behind one
// LayerNorm, biases everywhere (the head's, too), rotary positions in a part of each head.
//
// Peculiar: qk_layernorm normalizes queries and keys per head with weight and bias. head_dim is not
// a documented key, but transformers obeys it. Source: transformers/models/phi/modeling_phi.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_phi(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 51200,
                                 .hidden_size = 2048,
                                 .intermediate_size = 8192,
                                 .num_hidden_layers = 24,
                                 .num_attention_heads = 32,
                                 .hidden_act = "gelu_new",
                                 .partial_rotary_factor = 0.5});
  spec.norm = {NormKind::kLayer, config.number("layer_norm_eps", 1e-5)};
  spec.names.final_norm = "final_layernorm";
  spec.names.pre_mlp_norm = "";
  spec.residual = Residual::kParallel;
  spec.head_bias = Bias::kYes;
  spec.attention.output_name = "dense";
  spec.attention.qkv_bias = spec.attention.output_bias = Bias::kYes;
  if (config.boolean("qk_layernorm", false)) {
    spec.attention.qk_norm = QkNorm::kPerHead;
    spec.attention.qk_norm_spec = spec.norm;
    spec.attention.query_norm_name = "q_layernorm";
    spec.attention.key_norm_name = "k_layernorm";
  }
  spec.mlp.form = FeedForwardSpec::Form::kPlain;
  spec.mlp.up_name = "fc1";
  spec.mlp.down_name = "fc2";
  spec.mlp.bias = Bias::kYes;
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {"lm_head.*", "score.*", "*.rotary_emb.inv_freq"};

}  // namespace

extern const Architecture kPhi;
const Architecture kPhi{.model_type = "phi",
                        .tasks = kTokenDecoderTasks,
                        .ignored_tensors = kIgnoredTensors,
                        .build = build_phi};

}  // namespace onnxferry
