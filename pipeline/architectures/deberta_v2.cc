// DeBERTa-v2 and -v3 (He et al. 2021): post-norm encoder whose attention adds content-to-position
// (c2p) and position-to-content (p2c) scores against embeddings of the relative position.
//
// Peculiar: relative positions fall into logarithmic buckets (position_buckets); their projections
// usually share the weights of queries and keys (share_att_key); padding is masked in the
// embeddings and on both sides of the attention; xlarge and larger v2 models add a convolution
// after the first layer. p2c at (i, j) reads the same row of the table as c2p, since bucket(-x) =
// -bucket(x). Source: transformers/models/deberta_v2/modeling_deberta_v2.py.

#include <cmath>

#include <fmt/format.h>

#include "pipeline/architectures/deberta_like.h"

namespace onnxferry {
namespace {

constexpr BertDefaults kDefaults{.vocab_size = 128100,
                                 .hidden_size = 1536,
                                 .num_hidden_layers = 24,
                                 .num_attention_heads = 24,
                                 .intermediate_size = 6144,
                                 .type_vocab_size = 0,
                                 .layer_norm_eps = 1e-7};

struct DebertaV2Config : DebertaConfig {
  std::int64_t position_buckets, conv_kernel_size;
  bool share_att_key, normalizes_positions;

  explicit DebertaV2Config(const BuildContext& context)
      : DebertaConfig(context, kDefaults),
        position_buckets(source.integer("position_buckets", -1)),
        conv_kernel_size(source.integer("conv_kernel_size", 0)),
        share_att_key(source.boolean("share_att_key", false)),
        normalizes_positions(has_word(source.words("norm_rel_ebd"), "layer_norm")) {
    if (source.integer("attention_head_size", hidden_size / num_attention_heads) !=
        hidden_size / num_attention_heads) {
      source.refuse("attention_head_size", "only hidden_size / num_attention_heads is implemented");
    }
    constexpr std::int64_t kMinBuckets = 4;  // fewer have no logarithmic part
    constexpr std::int64_t kMaxPositions = 1 << 20;
    if (relative_attention && position_buckets > 0 &&
        (position_buckets < kMinBuckets || max_relative_positions > kMaxPositions ||
         position_buckets / 2 >= max_relative_positions - 1)) {
      source.refuse("position_buckets",
                    "there must be at least 4, and half of them closer than "
                    "the largest relative position");
    }
    if (conv_kernel_size > 0 && conv_kernel_size % 2 == 0) {
      source.refuse("conv_kernel_size", "an even kernel changes the sequence length");
    }
  }
  [[nodiscard]] RelativeTable relative_table() const {
    if (position_buckets > 0) {
      return {position_buckets, position_buckets, max_relative_positions};
    }
    return {.span = max_relative_positions};
  }
};

// The relative positions of a graph: their embeddings [2 · span, H], and which one a pair has.
struct Relative {
  Value embeddings;
  RelativePairs pairs;
};

Relative relative_positions(GraphBuilder& g, const DebertaV2Config& config, const Value& ids) {
  const RelativeTable table = config.relative_table();
  const std::int64_t rows = 2 * table.span;
  Value embeddings =
      g.weight(config.prefix + "encoder.rel_embeddings.weight", {rows, config.hidden_size});
  if (config.normalizes_positions) {
    embeddings = layer_norm(g,
                            embeddings,
                            config.prefix + "encoder.LayerNorm",
                            config.hidden_size,
                            config.layer_norm_eps);
  }
  return {embeddings, relative_pairs(g, relative_rows(g, ids, table), g.int_scalar(rows))};
}

Value attention(GraphBuilder& g,
                const DebertaV2Config& config,
                const Value& x,
                const std::string& key,
                const Value& mask,
                const std::optional<Relative>& relative) {
  const std::int64_t size = config.hidden_size;
  const auto scope = g.scope("attention/self");
  const auto projected = [&](const Value& input, std::string_view name, SplitOrder order) {
    const Value y = project(g, input, key + ".attention.self", name, size, size);
    return split_for_scores(g, config, y, order);
  };
  const bool to_position = config.attends("c2p");
  const bool to_content = config.attends("p2c");
  const std::int64_t head_dim = size / config.num_attention_heads;
  const int parts = 1 + (to_position ? 1 : 0) + (to_content ? 1 : 0);
  const Value scale = g.float_scalar(std::sqrt(static_cast<float>(head_dim * parts)));
  DisentangledAttention spec{.num_heads = config.num_attention_heads,
                             .head_dim = head_dim,
                             .query = g.Div(projected(x, "query_proj", SplitOrder::kTokens), scale),
                             .key = projected(x, "key_proj", SplitOrder::kTokens),
                             .value = projected(x, "value_proj", SplitOrder::kTokens)};
  if (relative && to_position) {
    spec.position_keys = projected(relative->embeddings,
                                   config.share_att_key ? "key_proj" : "pos_key_proj",
                                   SplitOrder::kPositions);
  }
  if (relative && to_content) {
    spec.position_queries = g.Div(projected(relative->embeddings,
                                            config.share_att_key ? "query_proj" : "pos_query_proj",
                                            SplitOrder::kPositions),
                                  scale);
  }
  return disentangled_attention(g, spec, relative ? &relative->pairs : nullptr, mask);
}

// LayerNorm(first layer's output + activation(conv(embeddings))), zero where padded.
Value convolution(GraphBuilder& g,
                  const DebertaV2Config& config,
                  const Value& embedded,
                  const Value& first_layer,
                  const Value& mask) {
  const auto scope = g.scope("encoder/conv");
  const std::string key = config.prefix + "encoder.conv";
  const std::int64_t kernel = config.conv_kernel_size;
  const std::int64_t groups = config.source.dimension("conv_groups", 1);
  const Value weight =
      g.weight(key + ".conv.weight", {config.hidden_size, config.hidden_size / groups, kernel});
  const Value bias = g.weight(key + ".conv.bias", {config.hidden_size});
  const Value mixed = g.Conv(g.Transpose(embedded, {0, 2, 1}),
                             weight,
                             &bias,
                             {.kernel = kernel, .padding = (kernel - 1) / 2, .groups = groups});
  const Value kept = g.Mul(g.Transpose(mixed, {0, 2, 1}), mask);
  const Value activated = read_activation(config.source, "conv_act", "tanh")(g, kept);
  return g.Mul(layer_norm(g,
                          g.Add(first_layer, activated),
                          key + ".LayerNorm",
                          config.hidden_size,
                          config.layer_norm_eps),
               mask);
}

Value encode(GraphBuilder& g, const DebertaV2Config& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value real = token_mask(g, inputs);
  const Value embedded = deberta_embeddings(g, config, inputs, real);
  const Value mask = pair_mask(g, real);
  std::optional<Relative> relative;
  if (config.relative_attention) {
    const auto inner = g.scope("encoder");
    relative = relative_positions(g, config, inputs.input_ids);
  }
  Value x = embedded;
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const std::string name = fmt::format("encoder.layer.{}", i);
    const std::string key = config.prefix + name;
    {
      const auto inner = g.scope(module_path(name));
      x = encoder_layer(g, config.layer(), x, key, [&](const Value& input) {
        return attention(g, config, input, key, mask, relative);
      });
    }
    if (i == 0 && config.conv_kernel_size > 0) {
      x = convolution(g, config, embedded, x, real);
    }
  }
  return x;
}

std::vector<BuiltGraph> build_deberta_v2(const BuildContext& context) {
  const DebertaV2Config config(context);
  return build_deberta_like(context, config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
    return encode(g, config, inputs);
  });
}

}  // namespace

extern const Architecture kDebertaV2;
const Architecture kDebertaV2{.model_type = "deberta-v2",
                              .tasks = kTextEncoderTasks,
                              .ignored_tensors = kDebertaIgnoredTensors,
                              .build = build_deberta_v2};

}  // namespace onnxferry
