// The decoder of ModernBERT's family (Ettin, JHU 2025): ModernBERT's layers with a causal mask and
// separate q, k and v. Every global_attn_every_n_layers-th layer, the first included, looks at
// everything, the others at local_attention / 2 tokens.
//
// Peculiar: layer 0 has no norm before its attention, since the embeddings are normalized; both
// heads stand behind a dense layer with a norm; transformers turns all layers with
// global_rope_theta, whatever local_rope_theta says. Source:
// transformers/models/modernbert_decoder/modeling_modernbert_decoder.py.

#include <fmt/format.h>

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

Bias read_bias(const ModelConfig& config, std::string_view key, bool when_absent) {
  return config.boolean(key, when_absent) ? Bias::kYes : Bias::kNo;
}

void read_attention(const ModelConfig& config, DecoderSpec& spec) {
  spec.layers = plain_layers(config.dimension("num_hidden_layers", 22));
  spec.layers.front().has_attention_norm = false;
  const std::int64_t every = config.dimension("global_attn_every_n_layers", 3);
  config.disregard("sliding_window");  // computed anew from local_attention
  read_windows(config, spec, config.integer("local_attention", 128) / 2, [&](std::int64_t layer) {
    return layer % every != 0;
  });
  SelfAttentionSpec& attention = spec.attention;
  attention.num_heads = config.dimension("num_attention_heads", 12);
  set_plain_heads(config, spec);
  attention.output_name = "Wo";
  attention.qkv_bias = attention.output_bias = read_bias(config, "attention_bias", false);
  spec.ropes = {read_rope(config, attention.head_dim, 160000.0, "global_rope_theta")};
  config.disregard("local_rope_theta");
}

/// The dense layer with activation and norm before a head.
void read_prediction_head(const ModelConfig& config, DecoderSpec& spec) {
  const Activation activation = read_activation(config, "classifier_activation", "gelu");
  const Bias bias = read_bias(config, "classifier_bias", false);
  spec.sequence_classifier_bias = bias;
  spec.before_head = [size = spec.hidden_size, norm = spec.norm, activation, bias](
                         GraphBuilder& g, const Value& x, std::string_view task) {
    const std::string_view name = task == "text-generation" ? "lm_head" : "head";
    const auto scope = g.scope(name);
    const Value y = [&] {
      const auto inner = g.scope("dense");
      return linear(g, x, fmt::format("{}.dense", name), size, size, bias);
    }();
    const Value active = activation(g, y);
    const auto inner = g.scope("norm");
    return normalize(g, active, fmt::format("{}.norm", name), size, norm);
  };
}

std::vector<BuiltGraph> build_modernbert_decoder(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec;
  spec.names = {.embedding = "embeddings.tok_embeddings",
                .final_norm = "final_norm",
                .head = "decoder",
                .sequence_classifier = "classifier",
                .attention = "attn",
                .pre_attention_norm = "attn_norm",
                .pre_mlp_norm = "mlp_norm"};
  spec.vocab_size = config.dimension("vocab_size", 50368);
  spec.hidden_size = config.dimension("hidden_size", 768);
  spec.norm = {read_bias(config, "norm_bias", false) == Bias::kYes ? NormKind::kLayer
                                                                   : NormKind::kLayerWithoutBias,
               config.number("norm_eps", 1e-5)};
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  spec.head_bias = read_bias(config, "decoder_bias", true);
  spec.pad_token_id = 50283;
  read_attention(config, spec);
  spec.mlp = {.form = FeedForwardSpec::Form::kGatedFused,
              .hidden_size = spec.hidden_size,
              .intermediate_size = config.dimension("intermediate_size", 1152),
              .up_name = "Wi",
              .down_name = "Wo",
              .activation = read_activation(config, "hidden_activation", "gelu"),
              .bias = read_bias(config, "mlp_bias", false)};
  spec.after_embedding =
      [norm = spec.norm, size = spec.hidden_size](
          GraphBuilder& g, DecoderInputs&, const Value& words, const std::string& base) {
        const auto scope = g.scope("embeddings/norm");
        return normalize(g, words, fmt::format("{}embeddings.norm", base), size, norm);
      };
  read_prediction_head(config, spec);
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {"lm_head.*", "decoder.*", "head.*", "classifier.*"};

}  // namespace

extern const Architecture kModernBertDecoder;
const Architecture kModernBertDecoder{.model_type = "modernbert-decoder",
                                      .tasks = kDecoderTasks,
                                      .ignored_tensors = kIgnoredTensors,
                                      .build = build_modernbert_decoder};

}  // namespace onnxferry
