// MobileBERT (Sun et al. 2020): narrow BERT layers between bottlenecks: the hidden state is
// projected to intra_bottleneck_size, attended to, passed through num_feedforward_networks blocks,
// and projected back.
//
// Peculiar: word embeddings are joined with their neighbours' (trigram_input); most norms are only
// x · weight + bias (no_norm); the masked-LM head's table is the word embeddings beside a second
// table [hidden_size - embedding_size, vocab]. Source:
// transformers/models/mobilebert/modeling_mobilebert.py.

#include <limits>
#include <optional>

#include <fmt/format.h>

#include "pipeline/architectures/bert_like.h"
#include "pipeline/graph/heads.h"

namespace onnxferry {
namespace {

constexpr double kDefaultEpsilon = 1e-5;  // torch's, where the class passes none
constexpr BertDefaults kDefaults{.hidden_size = 512,
                                 .num_hidden_layers = 24,
                                 .num_attention_heads = 4,
                                 .intermediate_size = 512,
                                 .hidden_act = "relu"};

struct MobileBertConfig : BertConfig {
  bool trigram_input, use_bottleneck, use_bottleneck_attention, shares_key_query, normalizes;
  std::int64_t true_hidden_size, num_feedforward_networks;

  explicit MobileBertConfig(const BuildContext& context)
      : BertConfig(context, "mobilebert", kDefaults),
        trigram_input(source.boolean("trigram_input", true)),
        use_bottleneck(source.boolean("use_bottleneck", true)),
        use_bottleneck_attention(source.boolean("use_bottleneck_attention", false)),
        shares_key_query(source.boolean("key_query_shared_bottleneck", true)),
        normalizes(source.text("normalization_type", "no_norm") == "layer_norm"),
        true_hidden_size(source.dimension("intra_bottleneck_size", 128)),
        num_feedforward_networks(source.dimension("num_feedforward_networks", 4)) {
    embedding_size = source.dimension("embedding_size", 128);
    if (!use_bottleneck) {
      true_hidden_size = hidden_size;
    }
    if (!normalizes && source.text("normalization_type", "no_norm") != "no_norm") {
      source.refuse("normalization_type", "known norms are layer_norm and no_norm");
    }
    if (use_bottleneck && !use_bottleneck_attention && !shares_key_query) {
      source.refuse("key_query_shared_bottleneck", "queries and keys need a bottleneck");
    }
    if (true_hidden_size % num_attention_heads != 0 || embedding_size > hidden_size) {
      source.refuse("num_attention_heads", "the sizes do not fit each other");
    }
  }
};

Recipe float_tensor(GraphBuilder& g, const std::string& key, const Shape& shape) {
  return cast(view(g.tensor(key, shape)), Dtype::kFloat32);
}

/// norm(dense(x) [+ residual]) with the tensors `<key>.dense` and `<key>.LayerNorm`.
struct Block {
  std::string key;
  std::int64_t in, out;
  const Value* residual = nullptr;
  std::optional<double> epsilon;  ///< config.layer_norm_eps
};

// no_norm is x · n + c: the dense layer takes it in when its weights are written.
//
//   (x · W + b + r) · n + c = x · (W · n) + (b · n + c) + r · n
Value dense_no_norm(GraphBuilder& g, const Value& x, const Block& block) {
  const std::string dense = block.key + ".dense";
  const std::string norm = block.key + ".LayerNorm";
  const Recipe scale = float_tensor(g, norm + ".weight", {block.out});
  const Recipe weight =
      cast(transpose(view(g.tensor(dense + ".weight", {block.out, block.in}))), Dtype::kFloat32);
  const Recipe bias = binary(BinaryOp::kMul, float_tensor(g, dense + ".bias", {block.out}), scale);
  const Recipe shift = float_tensor(g, norm + ".bias", {block.out});
  const Value y = [&] {
    const auto scope = g.scope("dense");
    const Value product = g.MatMul(
        x, g.initializer(dense + ".weight_t_scaled", binary(BinaryOp::kMul, weight, scale)));
    return g.Add(product,
                 g.initializer(dense + ".bias_scaled", binary(BinaryOp::kAdd, bias, shift)));
  }();
  return block.residual == nullptr
             ? y
             : g.Add(y, g.Mul(*block.residual, g.weight(norm + ".weight", {block.out})));
}

Value dense_norm(GraphBuilder& g,
                 const MobileBertConfig& config,
                 const Value& x,
                 const Block& block) {
  if (!config.normalizes) {
    return dense_no_norm(g, x, block);
  }
  const Value y = project(g, x, block.key, "dense", block.in, block.out);
  return layer_norm(g,
                    block.residual == nullptr ? y : g.Add(y, *block.residual),
                    block.key + ".LayerNorm",
                    block.out,
                    block.epsilon.value_or(config.layer_norm_eps));
}

// The embedding of each token between those of the next and the previous one: [B, S, 3 · size].
Value trigrams(GraphBuilder& g, const Value& words) {
  constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();
  const Value padded = g.Pad(words, g.ints({0, 1, 0, 0, 1, 0}));
  const Value next = g.Slice(padded, g.ints({0, 2}), g.ints({kEnd, kEnd}));
  const Value previous = g.Slice(padded, g.ints({0, 0}), g.ints({kEnd, -2}));
  return g.Concat({next, words, previous}, 2);
}

// Words as wide as the hidden state.
Value word_embeddings(GraphBuilder& g,
                      const MobileBertConfig& config,
                      const Value& input_ids,
                      const std::string& key) {
  Value x =
      embedding(g, input_ids, key + ".word_embeddings", config.vocab_size, config.embedding_size);
  std::int64_t width = config.embedding_size;
  if (config.trigram_input) {
    x = trigrams(g, x);
    width *= 3;
  }
  return config.trigram_input || width != config.hidden_size
             ? project(g, x, key, "embedding_transformation", width, config.hidden_size)
             : x;
}

Value embeddings(GraphBuilder& g, const MobileBertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope("embeddings");
  const std::string key = config.prefix + "embeddings";
  const std::int64_t size = config.hidden_size;
  const Value x = word_embeddings(g, config, inputs.input_ids, key);
  const Value table =
      g.weight(key + ".position_embeddings.weight", {config.max_position_embeddings, size});
  Value sum = g.Add(x, g.Slice(table, g.ints({0}), g.Shape(inputs.input_ids, 1, 2)));
  if (inputs.token_type_ids) {
    static_cast<void>(config.source.dimension("type_vocab_size", config.type_vocab_size));
    const std::string types = key + ".token_type_embeddings";
    sum = g.Add(sum, embedding(g, *inputs.token_type_ids, types, config.type_vocab_size, size));
  }
  const std::string norm = key + ".LayerNorm";
  return config.normalizes ? layer_norm(g, sum, norm, size, kDefaultEpsilon)
                           : g.Add(g.Mul(sum, g.weight(norm + ".weight", {size})),
                                   g.weight(norm + ".bias", {size}));
}

// What attention reads, and the residual of its output.
struct AttentionInputs {
  Value query_key, value, residual;
};

AttentionInputs bottleneck(GraphBuilder& g,
                           const MobileBertConfig& config,
                           const Value& x,
                           const std::string& layer) {
  if (!config.use_bottleneck) {
    return {x, x, x};
  }
  const auto scope = g.scope("bottleneck");
  const auto narrow = [&](std::string_view name) {
    const auto inner = g.scope(name);
    const std::string key = fmt::format("{}.bottleneck.{}", layer, name);
    return dense_norm(g, config, x, {key, config.hidden_size, config.true_hidden_size});
  };
  const Value input = narrow("input");
  if (config.use_bottleneck_attention) {
    return {input, input, input};
  }
  return {narrow("attention"), x, input};
}

Value attention(GraphBuilder& g,
                const MobileBertConfig& config,
                const AttentionInputs& inputs,
                const std::string& layer,
                const Value& mask) {
  const std::string key = layer + ".attention.self";
  const std::int64_t size = config.true_hidden_size;
  const std::int64_t value_size = config.use_bottleneck_attention ? size : config.hidden_size;
  const Value context = [&] {
    const auto scope = g.scope("attention/self");
    const Value query = project(g, inputs.query_key, key, "query", size, size);
    const Value keys = project(g, inputs.query_key, key, "key", size, size);
    const Value values = project(g, inputs.value, key, "value", value_size, size);
    const AttentionSpec spec{.num_heads = config.num_attention_heads,
                             .num_key_value_heads = config.num_attention_heads,
                             .head_dim = size / config.num_attention_heads};
    return encoder_attention(g, query, keys, values, mask, spec);
  }();
  const auto scope = g.scope("attention/output");
  return dense_norm(
      g, config, context, {layer + ".attention.output", size, size, &inputs.residual});
}

// norm(x + dense(activation(dense(x))))
Value feed_forward(GraphBuilder& g,
                   const MobileBertConfig& config,
                   const Value& x,
                   const std::string& key,
                   std::optional<double> epsilon = {}) {
  const std::int64_t size = config.true_hidden_size;
  const Value wide = project(g, x, key, "intermediate.dense", size, config.intermediate_size);
  const Value activated = config.activation(g, wide);
  const auto scope = g.scope("output");
  return dense_norm(
      g, config, activated, {key + ".output", config.intermediate_size, size, &x, epsilon});
}

Value layer(GraphBuilder& g,
            const MobileBertConfig& config,
            const Value& x,
            const std::string& key,
            const Value& mask) {
  Value y = attention(g, config, bottleneck(g, config, x, key), key, mask);
  for (std::int64_t i = 0; i + 1 < config.num_feedforward_networks; ++i) {
    const auto scope = g.scope(fmt::format("ffn.{}", i));
    y = feed_forward(g, config, y, fmt::format("{}.ffn.{}", key, i));
  }
  y = feed_forward(g, config, y, key, kDefaultEpsilon);
  if (!config.use_bottleneck) {
    return y;
  }
  const auto scope = g.scope("output/bottleneck");
  return dense_norm(
      g, config, y, {key + ".output.bottleneck", config.true_hidden_size, config.hidden_size, &x});
}

Value encode(GraphBuilder& g, const MobileBertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  Value x = embeddings(g, config, inputs);
  const Value mask = padding_mask(g, inputs.attention_mask);
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto inner = g.scope(fmt::format("encoder/layer.{}", i));
    x = layer(g, config, x, fmt::format("{}encoder.layer.{}", config.prefix, i), mask);
  }
  return x;
}

void masked_lm(GraphBuilder& g,
               const MobileBertConfig& config,
               const Value& x,
               const Value& input_ids) {
  const auto scope = g.scope("cls/predictions");
  const std::int64_t size = config.hidden_size;
  const std::int64_t narrow = config.embedding_size;
  const std::string key = "cls.predictions";
  const Value wide = project(g, x, key, "transform.dense", size, size);
  const Value transformed = layer_norm(
      g, config.activation(g, wide), key + ".transform.LayerNorm", size, config.layer_norm_eps);
  const std::int64_t sizes[] = {narrow, size - narrow};
  const auto parts = size == narrow ? std::vector{transformed} : g.Split(transformed, sizes, -1);
  const std::string decoder = key + ".decoder";
  Value logits =
      config.ties_word_embeddings
          ? tied_head(g,
                      parts[0],
                      input_ids,
                      {config.prefix + "embeddings.word_embeddings", config.vocab_size, narrow, ""})
          : linear(g, parts[0], decoder, narrow, config.vocab_size, Bias::kNo);
  if (size != narrow) {
    const Value rest = g.weight(key + ".dense.weight", {size - narrow, config.vocab_size});
    logits = g.Add(logits, g.MatMul(parts[1], rest));
  }
  const std::string bias = g.has_tensor(key + ".bias") ? key + ".bias" : decoder + ".bias";
  g.output("logits",
           g.Add(logits, g.weight(bias, {config.vocab_size})),
           {"batch_size", "sequence_length", config.vocab_size});
}

Pooling pooling(const MobileBertConfig& config) {
  if (config.source.boolean("classifier_activation", true)) {
    return bert_pooling(config);
  }
  return {.build = [](GraphBuilder& g, const Value& x, const EncoderInputs&) {
    return g.Gather(x, g.int_scalar(0), 1);
  }};
}

std::vector<BuiltGraph> build_mobilebert(const BuildContext& context) {
  const MobileBertConfig config(context);
  return build_text_encoder(
      context,
      {.hidden_size = config.hidden_size,
       .has_token_types = true,
       .encode = [&](GraphBuilder& g, const EncoderInputs& in) { return encode(g, config, in); },
       .sequence = pooling(config),
       .choice = pooling(config),
       .masked_lm =
           [&](GraphBuilder& g, const Value& x, const Value& ids) { masked_lm(g, config, x, ids); },
       .masked_lm_tensor = "cls.predictions.transform.dense.weight"});
}

// As everywhere, and what a checkpoint holds without using it under some flags.
constexpr std::string_view kIgnoredTensors[] = {"*pooler.*",
                                                "cls.*",
                                                "classifier.*",
                                                "qa_outputs.*",
                                                "*embeddings.position_ids",
                                                "*embeddings.embedding_transformation.*",
                                                "*.bottleneck.attention.*"};

}  // namespace

extern const Architecture kMobileBert;
const Architecture kMobileBert{.model_type = "mobilebert",
                               .tasks = kTextEncoderTasks,
                               .ignored_tensors = kIgnoredTensors,
                               .build = build_mobilebert,
                               .tasks_that_see_padding = kTextEncoderTasks};

}  // namespace onnxferry
