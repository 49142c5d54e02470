#include "pipeline/architectures/bert_like.h"

#include <fmt/format.h>

#include "pipeline/graph/heads.h"

namespace onnxferry {
namespace {

// RoBERTa counts only real tokens, and padding gets padding_id itself. Source:
// create_position_ids_from_input_ids in transformers/models/roberta/modeling_roberta.py.
Value positions_from_ids(GraphBuilder& g, const Value& input_ids, std::int64_t padding_id) {
  const Value padding = g.int_scalar(padding_id);
  const Value real = g.Cast(g.Not(g.Equal(input_ids, padding)), Dtype::kInt64);
  return g.Add(g.Mul(g.CumSum(real, 1), real), padding);
}

// Row 0 of a table [rows, size] as [1, size].
Value first_row(GraphBuilder& g, const std::string& key, std::int64_t rows, std::int64_t size) {
  const Value table = g.weight(key, {rows, size});
  return rows == 1 ? table : g.Gather(table, g.ints({0}));
}

Value token_types(GraphBuilder& g,
                  const BertConfig& config,
                  const EncoderInputs& inputs,
                  const std::string& key) {
  static_cast<void>(config.source.dimension("type_vocab_size", config.type_vocab_size));
  if (inputs.token_type_ids) {
    return embedding(g, *inputs.token_type_ids, key, config.type_vocab_size, config.embedding_size);
  }
  return first_row(g, key + ".weight", config.type_vocab_size, config.embedding_size);
}

Value positions(GraphBuilder& g,
                const BertConfig& config,
                const Value& input_ids,
                const BertEmbeddings& embeddings,
                const std::string& key) {
  if (embeddings.positions == Positions::kFromIds) {
    return embedding(g,
                     positions_from_ids(g, input_ids, embeddings.padding_id),
                     key,
                     config.max_position_embeddings,
                     config.embedding_size);
  }
  const Value start = g.ints({0});
  const std::string name = key + ".weight";
  const std::int64_t count = config.max_position_embeddings;
  const std::int64_t first = embeddings.first_position;
  const TensorInfo& table = g.tensor(name, {first + count, config.embedding_size});
  const Value used = g.initializer(name, cast(rows(view(table), first, count), Dtype::kFloat32));
  return g.Slice(used, start, g.Shape(input_ids, 1, 2));  // [S, H]
}

// norm(activation(dense(x))) times the word embeddings or the head's own table
void masked_lm_output(GraphBuilder& g,
                      const BertConfig& config,
                      const MaskedLmKeys& keys,
                      Activation activation,
                      const Value& hidden_state,
                      const Value& input_ids) {
  const Value transformed = [&] {
    const auto scope = g.scope(keys.transform_scope);
    const Value x =
        linear(g, hidden_state, keys.dense, config.hidden_size, config.prediction_size, Bias::kYes);
    return layer_norm(
        g, activation(g, x), keys.norm, config.prediction_size, config.layer_norm_eps);
  }();
  const auto scope = g.scope(keys.decoder_scope);
  const std::string table = config.prefix + "embeddings.word_embeddings";
  const std::string copied_bias = fmt::format("{}.bias", keys.decoder);
  masked_lm_head(g,
                 transformed,
                 input_ids,
                 {.table_key = table,
                  .decoder_key = config.shares_columns() ? table : keys.decoder,
                  .bias_key = g.has_tensor(keys.bias) ? keys.bias : copied_bias,
                  .is_tied = config.ties_word_embeddings && !config.shares_columns()},
                 config.prediction_size,
                 config.vocab_size);
}

}  // namespace

BertConfig::BertConfig(const BuildContext& context,
                       std::string_view base,
                       const BertDefaults& defaults,
                       const BertKeyNames& names)
    : source(context.config),
      scope(base),
      prefix(fmt::format("{}.", base)),
      vocab_size(source.dimension("vocab_size", defaults.vocab_size)),
      hidden_size(source.dimension(names.hidden_size, defaults.hidden_size)),
      num_hidden_layers(source.dimension(names.num_hidden_layers, defaults.num_hidden_layers)),
      num_attention_heads(
          source.dimension(names.num_attention_heads, defaults.num_attention_heads)),
      intermediate_size(source.dimension(names.intermediate_size, defaults.intermediate_size)),
      max_position_embeddings(
          source.dimension("max_position_embeddings", defaults.max_position_embeddings)),
      type_vocab_size(source.integer("type_vocab_size", defaults.type_vocab_size)),
      embedding_size(hidden_size),
      prediction_size(hidden_size),
      layer_norm_eps(source.number("layer_norm_eps", defaults.layer_norm_eps)),
      activation(read_activation(source, names.activation, defaults.hidden_act)),
      ties_word_embeddings(source.boolean("tie_word_embeddings", true)),
      has_masked_lm(context.task == "fill-mask") {
  if (context.tensors.find(prefix + "embeddings.word_embeddings.weight") == nullptr) {
    prefix.clear();
  }
  if (hidden_size % num_attention_heads != 0) {
    source.refuse(names.num_attention_heads, fmt::format("it must divide {}", names.hidden_size));
  }
  const std::string_view positions = defaults.position_embedding_type;
  if (source.text("position_embedding_type", "absolute") != positions) {
    source.refuse("position_embedding_type",
                  fmt::format("only {} position embeddings are implemented", positions));
  }
  if (source.boolean("is_decoder", false) || source.boolean("add_cross_attention", false)) {
    source.refuse("is_decoder", "an encoder used as a decoder is not implemented");
  }
}

EncoderLayerSpec BertConfig::layer() const {
  return {.hidden_size = hidden_size,
          .intermediate_size = intermediate_size,
          .num_attention_heads = num_attention_heads,
          .layer_norm_eps = layer_norm_eps,
          .activation = activation};
}

bool BertConfig::shares_columns() const {
  return has_masked_lm && ties_word_embeddings && embedding_size != hidden_size &&
         prediction_size == embedding_size;
}

Value embedding_sum(GraphBuilder& g,
                    const BertConfig& config,
                    const EncoderInputs& inputs,
                    const BertEmbeddings& embeddings) {
  const std::string key = config.prefix + "embeddings";
  const auto lookup = config.shares_columns() ? tied_embedding : embedding;
  const Value words = lookup(
      g, inputs.input_ids, key + ".word_embeddings", config.vocab_size, config.embedding_size);
  std::vector<Value> parts = {embeddings.scale_words ? embeddings.scale_words(g, words) : words};
  if (embeddings.has_token_types) {
    parts.push_back(token_types(g, config, inputs, key + ".token_type_embeddings"));
  }
  if (embeddings.positions != Positions::kNone) {
    parts.push_back(
        positions(g, config, inputs.input_ids, embeddings, key + ".position_embeddings"));
  }
  if (!embeddings.constant_table.empty()) {
    const std::string table = fmt::format("{}.{}.weight", key, embeddings.constant_table);
    parts.push_back(first_row(g, table, embeddings.constant_rows, config.embedding_size));
  }
  Value sum = parts.front();
  for (std::size_t i = 1; i < parts.size(); ++i) {
    sum = g.Add(sum, parts[i]);
  }
  return sum;
}

Value bert_embeddings(GraphBuilder& g,
                      const BertConfig& config,
                      const EncoderInputs& inputs,
                      const BertEmbeddings& embeddings) {
  const auto scope = g.scope("embeddings");
  const Value sum = embedding_sum(g, config, inputs, embeddings);
  return embeddings.has_norm ? layer_norm(g,
                                          sum,
                                          config.prefix + "embeddings.LayerNorm",
                                          config.embedding_size,
                                          config.layer_norm_eps)
                             : sum;
}

Value project_embeddings(GraphBuilder& g, const BertConfig& config, const Value& x) {
  if (config.embedding_size == config.hidden_size) {
    return x;
  }
  const auto scope = g.scope("embeddings_project");
  const std::string key = config.prefix + "embeddings_project";
  return linear(g, x, key, config.embedding_size, config.hidden_size, Bias::kYes);
}

Value bert_layers(GraphBuilder& g,
                  const BertConfig& config,
                  const EncoderLayerSpec& layer,
                  const Value& x,
                  const AttentionOfLayer& attention) {
  Value state = x;
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const std::string name = fmt::format("{}.{}", layer.keys.list, i);
    const std::string key = config.prefix + name;
    const auto scope = g.scope(module_path(name));
    state = encoder_layer(
        g, layer, state, key, [&](const Value& input) { return attention(input, key); });
  }
  return state;
}

Value bert_layers(GraphBuilder& g,
                  const BertConfig& config,
                  const EncoderLayerSpec& layer,
                  const Value& x,
                  const Value& mask) {
  return bert_layers(g, config, layer, x, [&](const Value& input, const std::string& key) {
    return plain_attention(g, layer, input, key, mask);
  });
}

Pooling bert_pooling(const BertConfig& config) {
  return first_token_pooling(config.prefix + "pooler.dense",
                             config.scope + "/pooler",
                             config.hidden_size,
                             tanh_activation);
}

void set_masked_lm(TextEncoder& encoder,
                   const BertConfig& config,
                   const MaskedLmKeys& keys,
                   Activation activation) {
  encoder.masked_lm_tensor = fmt::format("{}.weight", keys.dense);
  encoder.masked_lm = [&config, keys, activation](
                          GraphBuilder& g, const Value& x, const Value& input_ids) {
    masked_lm_output(g, config, keys, activation, x, input_ids);
  };
}

TextEncoder with_bert_heads(const BertConfig& config, Encode encode) {
  TextEncoder encoder{.hidden_size = config.hidden_size,
                      .has_token_types = true,
                      .encode = std::move(encode),
                      .sequence = bert_pooling(config),
                      .choice = bert_pooling(config)};
  set_masked_lm(encoder, config, kBertMaskedLmKeys, config.activation);
  return encoder;
}

TextEncoder with_roberta_heads(const BertConfig& config, Encode encode) {
  TextEncoder encoder{.hidden_size = config.hidden_size,
                      .encode = std::move(encode),
                      .sequence = classification_head(config.hidden_size, tanh_activation),
                      .choice = bert_pooling(config)};
  set_masked_lm(encoder, config, kRobertaMaskedLmKeys, gelu);
  return encoder;
}

std::vector<BuiltGraph> build_roberta_like(const BuildContext& context, const BertConfig& config) {
  return build_text_encoder(
      context, with_roberta_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
        const auto scope = g.scope(config.scope);
        const std::int64_t padding_id = config.source.integer("pad_token_id", 1);
        const Value x = bert_embeddings(
            g, config, inputs, {.positions = Positions::kFromIds, .padding_id = padding_id});
        const Value mask = padding_mask(g, inputs.attention_mask);
        return bert_layers(g, config, config.layer(), x, mask);
      }));
}

}  // namespace onnxferry
