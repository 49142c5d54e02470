// Persimmon-8B (Adept 2023): pre-norm LayerNorm layers, squared ReLU, rotary positions in half of
// each head, queries and keys normalized per head.
//
// Peculiar: query_key_value's rows stand head by head (query, key, value). Source:
// transformers/models/persimmon/modeling_persimmon.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_persimmon(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 262144,
                                 .hidden_size = 4096,
                                 .intermediate_size = 16384,
                                 .num_hidden_layers = 36,
                                 .num_attention_heads = 64,
                                 .rope_theta = 25000.0,
                                 .hidden_act = "relu2",
                                 .partial_rotary_factor = 0.5});
  SelfAttentionSpec& attention = spec.attention;
  if (attention.head_dim * attention.num_heads != spec.hidden_size) {
    config.refuse("head_dim", "transformers computes with hidden_size / num_attention_heads");
  }
  attention.num_key_value_heads = attention.num_heads;
  spec.norm = {NormKind::kLayer, config.number("layer_norm_eps", 1e-5)};
  spec.names.final_norm = "final_layernorm";
  attention.form = QkvForm::kGrouped;
  attention.qkv_name = "query_key_value";
  attention.output_name = "dense";
  attention.qkv_bias = attention.output_bias = Bias::kYes;
  if (config.boolean("qk_layernorm", true)) {
    attention.qk_norm = QkNorm::kPerHead;
    attention.qk_norm_spec = spec.norm;
    attention.query_norm_name = "q_layernorm";
    attention.key_norm_name = "k_layernorm";
  }
  spec.mlp.form = FeedForwardSpec::Form::kPlain;
  spec.mlp.up_name = "dense_h_to_4h";
  spec.mlp.down_name = "dense_4h_to_h";
  spec.mlp.bias = Bias::kYes;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kPersimmon;
const Architecture kPersimmon{.model_type = "persimmon",
                              .tasks = kTokenDecoderTasks,
                              .ignored_tensors = kDecoderIgnoredTensors,
                              .build = build_persimmon};

}  // namespace onnxferry
