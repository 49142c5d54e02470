// BLOOM (BigScience 2022): ALiBi in place of positions, a LayerNorm behind the embedding, tanh
// GELU, tied head.
//
// Peculiar: ALiBi's positions count the real tokens of each row, so the mask moves them.
// query_key_value's rows stand head by head (query, key, value). n_embed is an old name of
// hidden_size and wins. Source: transformers/models/bloom/modeling_bloom.py.

#include <fmt/format.h>

#include "pipeline/architectures/decoder.h"
#include "pipeline/graph/alibi.h"

namespace onnxferry {
namespace {

void read_layers(const ModelConfig& config, DecoderSpec& spec) {
  if (config.boolean("slow_but_exact", false) && config.integer("pretraining_tp", 1) > 1) {
    config.refuse("slow_but_exact", "with pretraining_tp above 1 it leaves biases out");
  }
  spec.residual = config.boolean("apply_residual_connection_post_layernorm", false)
                      ? Residual::kFromNorm
                      : Residual::kSequential;
  spec.layers = plain_layers(aliased_dimension(config, "n_layer", "num_hidden_layers", 2));
  SelfAttentionSpec& attention = spec.attention;
  attention.num_heads = aliased_dimension(config, "n_head", "num_attention_heads", 8);
  set_plain_heads(config, spec);
  attention.form = QkvForm::kGrouped;
  attention.qkv_name = "query_key_value";
  attention.output_name = "dense";
  attention.qkv_bias = attention.output_bias = Bias::kYes;
  spec.mlp = {.form = FeedForwardSpec::Form::kPlain,
              .hidden_size = spec.hidden_size,
              .intermediate_size = 4 * spec.hidden_size,
              .up_name = "dense_h_to_4h",
              .down_name = "dense_4h_to_h",
              .activation = gelu_tanh_activation,
              .bias = Bias::kYes};
}

std::vector<BuiltGraph> build_bloom(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec;
  spec.names = {.base = "transformer",
                .embedding = "word_embeddings",
                .layers = "h",
                .final_norm = "ln_f",
                .token_classifier = "classifier",
                .attention = "self_attention"};
  spec.vocab_size = config.dimension("vocab_size", 250880);
  spec.hidden_size = aliased_dimension(config, "hidden_size", "n_embed", 64);
  spec.norm = {NormKind::kLayer, config.number("layer_norm_epsilon", 1e-5)};
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  spec.position_input = PositionInput::kNo;
  read_layers(config, spec);
  spec.after_embedding =
      [size = spec.hidden_size, norm = spec.norm](
          GraphBuilder& g, DecoderInputs&, const Value& words, const std::string& base) {
        constexpr std::string_view kName = "word_embeddings_layernorm";
        const auto scope = g.scope(kName);
        return normalize(g, words, fmt::format("{}{}", base, kName), size, norm);
      };
  spec.attention_bias = [heads = spec.attention.num_heads](GraphBuilder& g, DecoderInputs& inputs) {
    return alibi(g, inputs.real_tokens_before(), alibi_slopes(heads));
  };
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kBloom;
const Architecture kBloom{.model_type = "bloom",
                          .tasks = kAllDecoderTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_bloom};

}  // namespace onnxferry
