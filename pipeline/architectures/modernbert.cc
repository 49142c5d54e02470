// ModernBERT (Warner et al. 2024): pre-norm encoder with rotary positions and GeGLU, biases off by
// default. Every global_attn_every_n_layers-th layer looks at the whole sequence, the others at
// local_attention / 2 tokens to either side.
//
// Peculiar: global and local layers have different rotary bases; layer 0 has no norm before its
// attention, since the embeddings are normalized; every head of a task stands behind a dense layer
// with a norm ("head"), and the span classifier is called classifier. Source:
// transformers/models/modernbert/modeling_modernbert.py.

#include <cmath>

#include <fmt/format.h>

#include "pipeline/architectures/encoder.h"
#include "pipeline/graph/attention.h"
#include "pipeline/graph/heads.h"
#include "pipeline/graph/relative_position.h"
#include "pipeline/graph/rotary.h"

namespace onnxferry {
namespace {

struct ModernBertConfig {
  const ModelConfig& source;
  std::string prefix;  // "model." or ""
  std::int64_t vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size;
  std::int64_t global_every, local_attention;
  RopeConfig global_rope, local_rope;
  NormSpec norm;
  Bias attention_bias, mlp_bias, classifier_bias;
  Activation activation, classifier_activation;
  bool pools_mean;

  explicit ModernBertConfig(const BuildContext& context)
      : source(context.config),
        prefix(context.tensors.find("model.embeddings.tok_embeddings.weight") ? "model." : ""),
        vocab_size(source.dimension("vocab_size", 50368)),
        hidden_size(source.dimension("hidden_size", 768)),
        num_hidden_layers(source.dimension("num_hidden_layers", 22)),
        num_attention_heads(source.dimension("num_attention_heads", 12)),
        intermediate_size(source.dimension("intermediate_size", 1152)),
        global_every(source.dimension("global_attn_every_n_layers", 3)),
        local_attention(source.dimension("local_attention", 128)),
        norm{bias("norm_bias") == Bias::kYes ? NormKind::kLayer : NormKind::kLayerWithoutBias,
             source.number("norm_eps", 1e-5)},
        attention_bias(bias("attention_bias")),
        mlp_bias(bias("mlp_bias")),
        classifier_bias(bias("classifier_bias")),
        activation(read_activation(source, "hidden_activation", "gelu")),
        classifier_activation(read_activation(source, "classifier_activation", "gelu")),
        pools_mean(source.text("classifier_pooling", "cls") == "mean") {
    if (hidden_size % num_attention_heads != 0) {
      source.refuse("num_attention_heads", "it must divide hidden_size");
    }
    if (!pools_mean && source.text("classifier_pooling", "cls") != "cls") {
      source.refuse("classifier_pooling", "known poolings are cls and mean");
    }
    const double theta = source.number("global_rope_theta", 160000.0);
    global_rope = unscaled_rope(theta, head_dim());
    const bool shares_theta = source.is_null("local_rope_theta");
    local_rope = unscaled_rope(source.number("local_rope_theta", shares_theta ? theta : 10000.0),
                               head_dim());
  }
  [[nodiscard]] std::int64_t head_dim() const { return hidden_size / num_attention_heads; }
  [[nodiscard]] Bias bias(std::string_view key) const {
    return source.boolean(key, false) ? Bias::kYes : Bias::kNo;
  }
};

/// What a kind of layer attends with.
struct AttentionContext {
  RotaryTables rotary;
  Value mask;
};

Value normalized(GraphBuilder& g,
                 const ModernBertConfig& config,
                 const Value& x,
                 const std::string& key,
                 std::string_view name) {
  const auto scope = g.scope(name);
  return normalize(g, x, fmt::format("{}.{}", key, name), config.hidden_size, config.norm);
}

Value attention(GraphBuilder& g,
                const ModernBertConfig& config,
                const Value& x,
                const std::string& key,
                const AttentionContext& context) {
  const auto scope = g.scope("attn");
  const std::int64_t size = config.hidden_size;
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t head_dim = config.head_dim();
  const Value all = linear(g, x, key + ".Wqkv", size, 3 * size, config.attention_bias);
  const std::vector<std::int64_t> sizes(3, size);
  const auto parts = g.Split(all, sizes, -1);
  const auto head = [&](const Value& part) { return split_heads(g, part, heads, head_dim); };
  const Value query = rotate(g, head(parts[0]), head_dim, context.rotary);
  const Value keys = rotate(g, head(parts[1]), head_dim, context.rotary);
  const AttentionSpec spec{.num_heads = heads,
                           .num_key_value_heads = heads,
                           .head_dim = head_dim,
                           .scale = 1 / std::sqrt(static_cast<double>(head_dim))};
  const Value mixed = grouped_attention(g, query, keys, head(parts[2]), context.mask, spec);
  return linear(g, mixed, key + ".Wo", size, size, config.attention_bias);
}

// Wo(activation(first half) · second half)
Value mlp(GraphBuilder& g, const ModernBertConfig& config, const Value& x, const std::string& key) {
  const auto scope = g.scope("mlp");
  const std::int64_t wide = config.intermediate_size;
  const auto [input, gate] =
      g.Split(linear(g, x, key + ".Wi", config.hidden_size, 2 * wide, config.mlp_bias), -1);
  const Value product = g.Mul(config.activation(g, input), gate);
  return linear(g, product, key + ".Wo", wide, config.hidden_size, config.mlp_bias);
}

Value encode(GraphBuilder& g, const ModernBertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope("model");
  const PositionRanges positions = position_ranges(g, inputs.input_ids);
  const Value row = g.Unsqueeze(positions.columns, {0});  // [1, S]
  const Value padding = padding_mask(g, inputs.attention_mask);
  const Value near = near_pairs(g, positions, config.local_attention / 2);
  const AttentionContext global{rotary_tables(g, config.global_rope, row), padding};
  const AttentionContext local{rotary_tables(g, config.local_rope, row),
                               g.Where(near, padding, g.lowest())};
  Value x = [&] {
    const auto inner = g.scope("embeddings");
    const std::string key = config.prefix + "embeddings";
    const Value words = embedding(
        g, inputs.input_ids, key + ".tok_embeddings", config.vocab_size, config.hidden_size);
    return normalized(g, config, words, key, "norm");
  }();
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const std::string name = fmt::format("layers.{}", i);
    const std::string key = config.prefix + name;
    const auto inner = g.scope(name);
    const Value normed = i == 0 ? x : normalized(g, config, x, key, "attn_norm");
    const AttentionContext& context = i % config.global_every == 0 ? global : local;
    x = g.Add(x, attention(g, config, normed, key + ".attn", context));
    x = g.Add(x, mlp(g, config, normalized(g, config, x, key, "mlp_norm"), key + ".mlp"));
  }
  return normalize(g, x, config.prefix + "final_norm", config.hidden_size, config.norm);
}

// norm(activation(dense(x))), before every head
Value head(GraphBuilder& g, const ModernBertConfig& config, const Value& x) {
  const auto scope = g.scope("head");
  const std::int64_t size = config.hidden_size;
  const Value transformed = linear(g, x, "head.dense", size, size, config.classifier_bias);
  return normalized(g, config, config.classifier_activation(g, transformed), "head", "norm");
}

// The classes take different tokens when a row is padded on the left.
enum class ClsToken : std::uint8_t { kFirst, kFirstReal };

Pooling pooling(const ModernBertConfig& config, ClsToken cls) {
  const auto build = [&config, cls](GraphBuilder& g, const Value& x, const EncoderInputs& inputs) {
    if (config.pools_mean) {
      return head(g, config, mean_of_tokens(g, x, inputs.attention_mask));
    }
    return head(g,
                config,
                cls == ClsToken::kFirst ? g.Gather(x, g.int_scalar(0), 1)
                                        : g.GatherND(x, g.ArgMax(inputs.attention_mask, 1), 1));
  };
  return {.build = build, .tensor = "head.dense.weight"};
}

void masked_lm(GraphBuilder& g,
               const ModernBertConfig& config,
               const Value& x,
               const Value& input_ids) {
  const Value transformed = head(g, config, x);
  const auto scope = g.scope("decoder");
  const std::string table = config.prefix + "embeddings.tok_embeddings";
  masked_lm_head(g,
                 transformed,
                 input_ids,
                 {.table_key = table,
                  .decoder_key = "decoder",
                  .bias_key = config.source.boolean("decoder_bias", true) ? "decoder.bias" : "",
                  .is_tied = config.source.boolean("tie_word_embeddings", true)},
                 config.hidden_size,
                 config.vocab_size);
}

std::vector<BuiltGraph> build_modernbert(const BuildContext& context) {
  const ModernBertConfig config(context);
  return build_text_encoder(
      context,
      {.hidden_size = config.hidden_size,
       .encode = [&](GraphBuilder& g, const EncoderInputs& in) { return encode(g, config, in); },
       .sequence = pooling(config, ClsToken::kFirst),
       .choice = pooling(config, ClsToken::kFirstReal),
       .token_transform = [&](GraphBuilder& g, const Value& x) { return head(g, config, x); },
       .span_classifier = "classifier",
       .masked_lm =
           [&](GraphBuilder& g, const Value& x, const Value& ids) { masked_lm(g, config, x, ids); },
       .masked_lm_tensor = "head.dense.weight"});
}

// Heads that the task does not use, and the tied copy of the masked-LM decoder.
constexpr std::string_view kIgnoredTensors[] = {"head.*", "decoder.*", "classifier.*"};

}  // namespace

extern const Architecture kModernBert;
const Architecture kModernBert{.model_type = "modernbert",
                               .tasks = kTextEncoderTasks,
                               .ignored_tensors = kIgnoredTensors,
                               .build = build_modernbert};

}  // namespace onnxferry
