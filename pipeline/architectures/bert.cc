// BERT (Devlin et al. 2018): post-norm encoder, learned absolute positions, token types, tanh
// pooler.
//
// Peculiar: checkpoints from TensorFlow call LayerNorm weights gamma and beta; the base model may
// be saved without the "bert." prefix; the masked-LM decoder shares the word embeddings unless
// tie_word_embeddings is false, and its bias is stored as cls.predictions.bias. Source: BertModel
// and the BertFor… classes in transformers/models/bert/modeling_bert.py.

#include <fmt/format.h>

#include "pipeline/architectures/encoder.h"
#include "pipeline/error.h"
#include "pipeline/graph/attention.h"
#include "pipeline/graph/heads.h"
#include "pipeline/graph/layers.h"

namespace onnxferry {
namespace {

struct BertConfig {
  const ModelConfig& source;
  std::string prefix;  // "bert." or ""
  std::int64_t vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size;
  std::int64_t max_position_embeddings, type_vocab_size;
  double layer_norm_eps;

  explicit BertConfig(const BuildContext& context)
      : source(context.config),
        prefix(context.tensors.find("bert.embeddings.word_embeddings.weight") != nullptr ? "bert."
                                                                                         : ""),
        vocab_size(source.dimension("vocab_size", 30522)),
        hidden_size(source.dimension("hidden_size", 768)),
        num_hidden_layers(source.dimension("num_hidden_layers", 12)),
        num_attention_heads(source.dimension("num_attention_heads", 12)),
        intermediate_size(source.dimension("intermediate_size", 3072)),
        max_position_embeddings(source.dimension("max_position_embeddings", 512)),
        type_vocab_size(source.dimension("type_vocab_size", 2)),
        layer_norm_eps(source.number("layer_norm_eps", 1e-12)) {
    if (hidden_size % num_attention_heads != 0) {
      source.refuse("num_attention_heads", "it must divide hidden_size");
    }
    if (source.text("position_embedding_type", "absolute") != "absolute") {
      source.refuse("position_embedding_type", "only absolute position embeddings are implemented");
    }
    if (source.boolean("is_decoder", false) || source.boolean("add_cross_attention", false)) {
      source.refuse("is_decoder", "BERT as a decoder is not implemented");
    }
  }
};

Value embeddings(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope("embeddings");
  const std::string key = config.prefix + "embeddings";
  const Value words = embedding(
      g, inputs.input_ids, key + ".word_embeddings", config.vocab_size, config.hidden_size);
  const Value types = embedding(g,
                                *inputs.token_type_ids,
                                key + ".token_type_embeddings",
                                config.type_vocab_size,
                                config.hidden_size);
  const Value positions = g.Slice(g.weight(key + ".position_embeddings.weight",
                                           {config.max_position_embeddings, config.hidden_size}),
                                  g.ints({0}),
                                  g.Shape(inputs.input_ids, 1, 2));  // [S, H]
  const Value sum = g.Add(g.Add(words, types), positions);
  return layer_norm(g, sum, key + ".LayerNorm", config.hidden_size, config.layer_norm_eps);
}

Value self_attention(GraphBuilder& g,
                     const BertConfig& config,
                     const Value& x,
                     const Value& mask,
                     const std::string& key) {
  const auto project = [&](std::string_view name) {
    const auto scope = g.scope(name);
    return linear(
        g, x, fmt::format("{}.{}", key, name), config.hidden_size, config.hidden_size, Bias::kYes);
  };
  const Value query = project("query");
  const Value keys = project("key");
  const Value values = project("value");
  const AttentionSpec spec{.num_heads = config.num_attention_heads,
                           .num_key_value_heads = config.num_attention_heads,
                           .head_dim = config.hidden_size / config.num_attention_heads};
  return encoder_attention(g, query, keys, values, mask, spec);
}

// dense → + residual → LayerNorm, under `key`
Value output_block(GraphBuilder& g,
                   const BertConfig& config,
                   const Value& x,
                   const Value& residual,
                   const std::string& key,
                   std::int64_t in) {
  const Value projected = [&] {
    const auto scope = g.scope("dense");
    return linear(g, x, key + ".dense", in, config.hidden_size, Bias::kYes);
  }();
  return layer_norm(
      g, g.Add(projected, residual), key + ".LayerNorm", config.hidden_size, config.layer_norm_eps);
}

Value intermediate(GraphBuilder& g,
                   const BertConfig& config,
                   const Value& x,
                   const std::string& key) {
  const Value widened = [&] {
    const auto scope = g.scope("dense");
    return linear(g, x, key + ".dense", config.hidden_size, config.intermediate_size, Bias::kYes);
  }();
  const auto scope = g.scope("intermediate_act_fn");
  return activation(g, widened, config.source, "hidden_act", "gelu");
}

Value layer(GraphBuilder& g,
            const BertConfig& config,
            const Value& input,
            const Value& mask,
            std::int64_t index) {
  const auto scope = g.scope(fmt::format("encoder/layer.{}", index));
  const std::string key = fmt::format("{}encoder.layer.{}", config.prefix, index);
  const Value context = [&] {
    const auto inner = g.scope("attention/self");
    return self_attention(g, config, input, mask, key + ".attention.self");
  }();
  const Value attended = [&] {
    const auto inner = g.scope("attention/output");
    return output_block(g, config, context, input, key + ".attention.output", config.hidden_size);
  }();
  const Value widened = [&] {
    const auto inner = g.scope("intermediate");
    return intermediate(g, config, attended, key + ".intermediate");
  }();
  const auto inner = g.scope("output");
  return output_block(g, config, widened, attended, key + ".output", config.intermediate_size);
}

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope("bert");
  Value x = embeddings(g, config, inputs);
  const Value mask = padding_mask(g, inputs.attention_mask);
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    x = layer(g, config, x, mask, i);
  }
  return x;
}

// tanh(dense(first token)): [B, H]
Value pooler(GraphBuilder& g, const BertConfig& config, const Value& hidden_state) {
  const auto scope = g.scope("bert/pooler");
  const Value first = g.Gather(hidden_state, g.int_scalar(0), 1);
  return g.Tanh(dense(g,
                      first,
                      config.prefix + "pooler.dense",
                      config.hidden_size,
                      config.hidden_size,
                      Bias::kYes));
}

void masked_lm(GraphBuilder& g,
               const BertConfig& config,
               const Value& hidden_state,
               const Value& input_ids) {
  const auto scope = g.scope("cls/predictions");
  const std::string key = "cls.predictions.transform";
  const Value transformed = [&] {
    const auto inner = g.scope("transform");
    const Value x =
        linear(g, hidden_state, key + ".dense", config.hidden_size, config.hidden_size, Bias::kYes);
    return layer_norm(g,
                      activation(g, x, config.source, "hidden_act", "gelu"),
                      key + ".LayerNorm",
                      config.hidden_size,
                      config.layer_norm_eps);
  }();
  const std::string table = config.prefix + "embeddings.word_embeddings";
  masked_lm_head(g,
                 transformed,
                 input_ids,
                 {.table_key = table,
                  .decoder_key = "cls.predictions.decoder",
                  .bias_key = "cls.predictions.bias",
                  .is_tied = config.source.boolean("tie_word_embeddings", true)},
                 config.hidden_size,
                 config.vocab_size);
}

std::vector<BuiltGraph> build_bert(const BuildContext& context) {
  const BertConfig config(context);
  return build_text_encoder(
      context,
      {.hidden_size = config.hidden_size,
       .has_token_types = true,
       .encode = [&](GraphBuilder& g,
                     const EncoderInputs& inputs) { return encode(g, config, inputs); },
       .pool = [&](GraphBuilder& g, const Value& x) { return pooler(g, config, x); },
       .masked_lm = [&](GraphBuilder& g,
                        const Value& x,
                        const Value& input_ids) { masked_lm(g, config, x, input_ids); },
       .pool_tensor = config.prefix + "pooler.dense.weight",
       .masked_lm_tensor = "cls.predictions.bias"});
}

// Heads that the task does not use, buffers of old versions, and the tied copies of the masked-LM
// decoder.
constexpr std::string_view kIgnoredTensors[] = {"bert.pooler.*",
                                                "pooler.*",
                                                "cls.*",
                                                "classifier.*",
                                                "qa_outputs.*",
                                                "bert.embeddings.position_ids",
                                                "embeddings.position_ids"};

}  // namespace

extern const Architecture kBert;
const Architecture kBert{.model_type = "bert",
                         .tasks = kTextEncoderTasks,
                         .ignored_tensors = kIgnoredTensors,
                         .build = build_bert};

}  // namespace onnxferry
