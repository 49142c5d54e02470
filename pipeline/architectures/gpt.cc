#include "pipeline/architectures/gpt.h"

#include <cmath>

namespace onnxferry {

DecoderSpec read_gpt(const ModelConfig& config, const GptDefaults& defaults) {
  DecoderSpec spec;
  spec.names = {.base = "transformer",
                .embedding = "wte",
                .layers = "h",
                .final_norm = "ln_f",
                .token_classifier = "classifier",
                .attention = "attn",
                .pre_attention_norm = "ln_1",
                .pre_mlp_norm = "ln_2"};
  spec.vocab_size = config.dimension("vocab_size", defaults.vocab_size);
  spec.hidden_size = aliased_dimension(config, "n_embd", "hidden_size", defaults.n_embd);
  spec.norm = {NormKind::kLayer, config.number("layer_norm_epsilon", 1e-5)};
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  spec.layers =
      plain_layers(aliased_dimension(config, "n_layer", "num_hidden_layers", defaults.n_layer));

  SelfAttentionSpec& attention = spec.attention;
  attention.hidden_size = spec.hidden_size;
  attention.num_heads = aliased_dimension(config, "n_head", "num_attention_heads", defaults.n_head);
  set_plain_heads(config, spec);
  attention.form = QkvForm::kStacked;
  attention.qkv_name = "c_attn";
  attention.output_name = "c_proj";
  attention.qkv_bias = attention.output_bias = Bias::kYes;

  spec.mlp = {
      .form = FeedForwardSpec::Form::kPlain,
      .hidden_size = spec.hidden_size,
      .intermediate_size = config.dimension("n_inner", 4 * spec.hidden_size),
      .up_name = "c_fc",
      .down_name = "c_proj",
      .activation = read_activation(config, "activation_function", defaults.activation_function),
      .bias = Bias::kYes};
  return spec;
}

DecoderSpec read_gptj(const ModelConfig& config) {
  DecoderSpec spec =
      read_gpt(config, {.vocab_size = 50400, .n_embd = 4096, .n_layer = 28, .n_head = 16});
  spec.names.pre_mlp_norm = "";
  spec.residual = Residual::kParallel;
  spec.is_tied = config.boolean("tie_word_embeddings", false);
  spec.head_bias = Bias::kYes;
  spec.attention.form = QkvForm::kSeparate;
  spec.attention.output_name = "out_proj";
  spec.attention.qkv_bias = spec.attention.output_bias = Bias::kNo;
  spec.attention.scores = SelfAttentionSpec::Scores::kFloat32;
  spec.mlp.up_name = "fc_in";
  spec.mlp.down_name = "fc_out";
  const std::int64_t rotary_dim = config.dimension("rotary_dim", 64);
  if (rotary_dim > spec.attention.head_dim || rotary_dim % 2 != 0) {
    config.refuse("rotary_dim", "expected an even number of at most the size of a head");
  }
  spec.ropes = {unscaled_rope(10000.0, rotary_dim)};
  spec.rotary_layout = RotaryLayout::kPairs;
  return spec;
}

}  // namespace onnxferry
