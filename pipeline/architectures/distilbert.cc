// DistilBERT (Sanh et al. 2019): BERT without token types and pooler; queries are scaled before the
// product; LayerNorm epsilon is 1e-12 whatever the config says (it has no key for it).
//
// Peculiar: n_heads, dim, hidden_dim and n_layers instead of the usual key names; the masked-LM
// projector is tied. Source: transformers/models/distilbert/modeling_distilbert.py.

#include <fmt/format.h>

#include "pipeline/architectures/encoder.h"
#include "pipeline/graph/attention.h"
#include "pipeline/graph/heads.h"
#include "pipeline/graph/layers.h"

namespace onnxferry {
namespace {

constexpr double kLayerNormEpsilon = 1e-12;

struct DistilBertConfig {
  const ModelConfig& source;
  std::string prefix;  // "distilbert." or ""
  std::int64_t vocab_size, dim, n_layers, n_heads, hidden_dim, max_position_embeddings;

  explicit DistilBertConfig(const BuildContext& context)
      : source(context.config),
        prefix(context.tensors.find("distilbert.embeddings.word_embeddings.weight") != nullptr
                   ? "distilbert."
                   : ""),
        vocab_size(source.dimension("vocab_size", 30522)),
        dim(source.dimension("dim", 768)),
        n_layers(source.dimension("n_layers", 6)),
        n_heads(source.dimension("n_heads", 12)),
        hidden_dim(source.dimension("hidden_dim", 3072)),
        max_position_embeddings(source.dimension("max_position_embeddings", 512)) {
    if (dim % n_heads != 0) {
      source.refuse("n_heads", "it must divide dim");
    }
  }
};

Value embeddings(GraphBuilder& g, const DistilBertConfig& config, const Value& input_ids) {
  const auto scope = g.scope("embeddings");
  const std::string key = config.prefix + "embeddings";
  const Value words =
      embedding(g, input_ids, key + ".word_embeddings", config.vocab_size, config.dim);
  const Value positions = g.Slice(
      g.weight(key + ".position_embeddings.weight", {config.max_position_embeddings, config.dim}),
      g.ints({0}),
      g.Shape(input_ids, 1, 2));  // [S, dim]
  return layer_norm(g, g.Add(words, positions), key + ".LayerNorm", config.dim, kLayerNormEpsilon);
}

Value attention(GraphBuilder& g,
                const DistilBertConfig& config,
                const Value& x,
                const Value& mask,
                const std::string& key) {
  const auto scope = g.scope("attention");
  const auto project = [&](const Value& input, std::string_view name) {
    const auto inner = g.scope(name);
    return linear(g, input, fmt::format("{}.{}", key, name), config.dim, config.dim, Bias::kYes);
  };
  const Value query = project(x, "q_lin");
  const Value keys = project(x, "k_lin");
  const Value values = project(x, "v_lin");
  const AttentionSpec spec{.num_heads = config.n_heads,
                           .num_key_value_heads = config.n_heads,
                           .head_dim = config.dim / config.n_heads,
                           .scale_on = ScaleOn::kQuery};
  return project(encoder_attention(g, query, keys, values, mask, spec), "out_lin");
}

Value feed_forward(GraphBuilder& g,
                   const DistilBertConfig& config,
                   const Value& x,
                   const std::string& key) {
  const auto scope = g.scope("ffn");
  const Value widened = [&] {
    const auto inner = g.scope("lin1");
    return linear(g, x, key + ".lin1", config.dim, config.hidden_dim, Bias::kYes);
  }();
  const Value activated = activation(g, widened, config.source, "activation", "gelu");
  const auto inner = g.scope("lin2");
  return linear(g, activated, key + ".lin2", config.hidden_dim, config.dim, Bias::kYes);
}

Value layer(GraphBuilder& g,
            const DistilBertConfig& config,
            const Value& input,
            const Value& mask,
            std::int64_t index) {
  const auto scope = g.scope(fmt::format("transformer/layer.{}", index));
  const std::string key = fmt::format("{}transformer.layer.{}", config.prefix, index);
  const Value attended =
      layer_norm(g,
                 g.Add(attention(g, config, input, mask, key + ".attention"), input),
                 key + ".sa_layer_norm",
                 config.dim,
                 kLayerNormEpsilon);
  return layer_norm(g,
                    g.Add(feed_forward(g, config, attended, key + ".ffn"), attended),
                    key + ".output_layer_norm",
                    config.dim,
                    kLayerNormEpsilon);
}

Value encode(GraphBuilder& g, const DistilBertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope("distilbert");
  Value x = embeddings(g, config, inputs.input_ids);
  const Value mask = padding_mask(g, inputs.attention_mask);
  for (std::int64_t i = 0; i < config.n_layers; ++i) {
    x = layer(g, config, x, mask, i);
  }
  return x;
}

void masked_lm(GraphBuilder& g,
               const DistilBertConfig& config,
               const Value& hidden_state,
               const Value& input_ids) {
  const Value transformed = [&] {
    const auto scope = g.scope("vocab_transform");
    const Value x = linear(g, hidden_state, "vocab_transform", config.dim, config.dim, Bias::kYes);
    return layer_norm(g,
                      activation(g, x, config.source, "activation", "gelu"),
                      "vocab_layer_norm",
                      config.dim,
                      kLayerNormEpsilon);
  }();
  const auto scope = g.scope("vocab_projector");
  const std::string table = config.prefix + "embeddings.word_embeddings";
  masked_lm_head(g,
                 transformed,
                 input_ids,
                 {.table_key = table,
                  .decoder_key = "vocab_projector",
                  .bias_key = "vocab_projector.bias",
                  .is_tied = config.source.boolean("tie_word_embeddings", true)},
                 config.dim,
                 config.vocab_size);
}

// relu(dense(first token)): [B, dim]
Value pre_classifier(GraphBuilder& g, const DistilBertConfig& config, const Value& hidden_state) {
  const auto scope = g.scope("pre_classifier");
  const Value first = g.Gather(hidden_state, g.int_scalar(0), 1);
  return g.Relu(dense(g, first, "pre_classifier", config.dim, config.dim, Bias::kYes));
}

std::vector<BuiltGraph> build_distilbert(const BuildContext& context) {
  const DistilBertConfig config(context);
  return build_text_encoder(
      context,
      {.hidden_size = config.dim,
       .encode = [&](GraphBuilder& g,
                     const EncoderInputs& inputs) { return encode(g, config, inputs); },
       .pool = [&](GraphBuilder& g, const Value& x) { return pre_classifier(g, config, x); },
       .masked_lm = [&](GraphBuilder& g,
                        const Value& x,
                        const Value& input_ids) { masked_lm(g, config, x, input_ids); },
       .pool_tensor = "pre_classifier.weight",
       .masked_lm_tensor = "vocab_projector.bias"});
}

// Heads that the task does not use, and the tied copy of the masked-LM projector.
constexpr std::string_view kIgnoredTensors[] = {"vocab_*",
                                                "classifier.*",
                                                "pre_classifier.*",
                                                "qa_outputs.*",
                                                "distilbert.embeddings.position_ids",
                                                "embeddings.position_ids"};

}  // namespace

extern const Architecture kDistilBert;
const Architecture kDistilBert{.model_type = "distilbert",
                               .tasks = kTextEncoderTasks,
                               .ignored_tensors = kIgnoredTensors,
                               .build = build_distilbert};

}  // namespace onnxferry
