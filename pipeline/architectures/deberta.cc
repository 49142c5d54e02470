// DeBERTa (He et al. 2020): as DeBERTa-v2, with one row of the table per relative position, and one
// projection for queries, keys and values.
//
// Peculiar: in_proj's rows go head by head (query, key, value of head 0, then of head 1, …),
// without bias but for q_bias and v_bias; of the table only the rows that the sequence needs are
// used; transformers has no multiple-choice class. Source:
// transformers/models/deberta/modeling_deberta.py.

#include <cmath>

#include <fmt/format.h>

#include "pipeline/architectures/deberta_like.h"

namespace onnxferry {
namespace {

constexpr BertDefaults kDefaults{.vocab_size = 50265, .type_vocab_size = 0, .layer_norm_eps = 1e-7};

// Rows [first, last) of the table are those that a sequence needs, `pairs` count from `first`.
struct Relative {
  Value first, last;  // [1]
  RelativePairs pairs;
};

Relative relative_positions(GraphBuilder& g, const DebertaConfig& config, const Value& ids) {
  const std::int64_t span = config.max_relative_positions;
  const Value used = g.Min(g.Shape(ids, 1, 2), g.ints({span}));
  const Value first = g.Sub(g.ints({span}), used);
  const Value rows = g.Sub(relative_rows(g, ids, {.span = span}), first);
  const Value width = g.Squeeze(g.Add(used, used));
  return {first, g.Add(used, g.ints({span})), relative_pairs(g, rows, width)};
}

// The table projected by `<name>`, [1, n, d, used rows]. ONNX Runtime projects once, when it loads.
Value positions(GraphBuilder& g,
                const DebertaConfig& config,
                const std::string& name,
                Bias bias,
                const Relative& relative) {
  const std::int64_t size = config.hidden_size;
  const Value table = g.weight(config.prefix + "encoder.rel_embeddings.weight",
                               {2 * config.max_relative_positions, size});
  const Value all = linear(g, table, name, size, size, bias);
  const Value used = g.Slice(all, relative.first, relative.last);
  return split_for_scores(g, config, used, SplitOrder::kPositions);
}

Value attention(GraphBuilder& g,
                const DebertaConfig& config,
                const Value& x,
                const std::string& key,
                const Value& mask,
                const std::optional<Relative>& relative) {
  const auto scope = g.scope("attention/self");
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t head_dim = config.hidden_size / heads;
  const auto parts = static_cast<std::int64_t>(1 + config.pos_att_type.size());
  const Value scale = g.float_scalar(std::sqrt(static_cast<float>(head_dim * parts)));
  const Value all =
      linear(g, x, key + ".in_proj", config.hidden_size, 3 * config.hidden_size, Bias::kNo);
  const std::vector<std::int64_t> sizes(3, head_dim);
  const auto split = g.Split(split_heads(g, all, heads, 3 * head_dim), sizes, -1);
  const auto bias = [&](std::string_view name) {
    const Value flat = g.weight(fmt::format("{}.{}", key, name), {config.hidden_size});
    return g.Reshape(flat, g.ints({heads, 1, head_dim}));
  };
  DisentangledAttention spec{.num_heads = heads,
                             .head_dim = head_dim,
                             .query = g.Div(g.Add(split[0], bias("q_bias")), scale),
                             .key = split[1],
                             .value = g.Add(split[2], bias("v_bias"))};
  if (relative && config.attends("c2p")) {
    spec.position_keys = positions(g, config, key + ".pos_proj", Bias::kNo, *relative);
  }
  if (relative && config.attends("p2c")) {
    spec.position_queries =
        g.Div(positions(g, config, key + ".pos_q_proj", Bias::kYes, *relative), scale);
  }
  return disentangled_attention(g, spec, relative ? &relative->pairs : nullptr, mask);
}

Value encode(GraphBuilder& g, const DebertaConfig& config, const EncoderInputs& inputs) {
  if (config.source.boolean("talking_head", false)) {
    config.source.refuse("talking_head", "mixing the heads' scores is not implemented");
  }
  const auto scope = g.scope(config.scope);
  const Value real = token_mask(g, inputs);
  const Value x = deberta_embeddings(g, config, inputs, real);
  const Value mask = pair_mask(g, real);
  std::optional<Relative> relative;
  if (config.relative_attention) {
    const auto inner = g.scope("encoder");
    relative = relative_positions(g, config, inputs.input_ids);
  }
  return bert_layers(g, config, config.layer(), x, [&](const Value& input, const std::string& key) {
    return attention(g, config, input, key + ".attention.self", mask, relative);
  });
}

std::vector<BuiltGraph> build_deberta(const BuildContext& context) {
  const DebertaConfig config(context, kDefaults);
  return build_deberta_like(context, config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
    return encode(g, config, inputs);
  });
}

constexpr std::string_view kTasks[] = {"feature-extraction",
                                       "fill-mask",
                                       "text-classification",
                                       "token-classification",
                                       "question-answering",
                                       "sentence-similarity"};

}  // namespace

extern const Architecture kDeberta;
const Architecture kDeberta{.model_type = "deberta",
                            .tasks = kTasks,
                            .ignored_tensors = kDebertaIgnoredTensors,
                            .build = build_deberta};

}  // namespace onnxferry
