// Qwen2 and Qwen2.5 (Qwen team 2024): pre-norm decoder, RMSNorm, grouped-query attention with
// biases on q, k and v only, rotary positions, SwiGLU.
//
// Peculiar: sliding windows only where layer_types says so, or (older configs) with
// use_sliding_window in layers from max_window_layers on; small models tie lm_head to the
// embedding. head_dim is not a documented key, but transformers obeys it. Source:
// transformers/models/qwen2/modeling_qwen2.py, GenericForSequenceClassification in
// modeling_layers.py.

#include <cmath>
#include <map>

#include <fmt/format.h>

#include "pipeline/architectures/architecture.h"
#include "pipeline/error.h"
#include "pipeline/graph/attention.h"
#include "pipeline/graph/decoder.h"
#include "pipeline/graph/heads.h"
#include "pipeline/graph/layers.h"
#include "pipeline/graph/rotary.h"

namespace onnxferry {
namespace {

struct Qwen2Config {
  const ModelConfig& source;
  std::string prefix;  // "model." or ""
  std::int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers;
  std::int64_t num_attention_heads, num_key_value_heads, head_dim;
  double rms_norm_eps;
  bool tie_word_embeddings;
  RopeConfig rope;
  std::vector<std::int64_t> windows;  // per layer; 0: full attention

  explicit Qwen2Config(const BuildContext& context)
      : source(context.config),
        prefix(context.tensors.find("model.embed_tokens.weight") != nullptr ? "model." : ""),
        vocab_size(source.dimension("vocab_size", 151936)),
        hidden_size(source.dimension("hidden_size", 4096)),
        intermediate_size(source.dimension("intermediate_size", 22016)),
        num_hidden_layers(source.dimension("num_hidden_layers", 32)),
        num_attention_heads(source.dimension("num_attention_heads", 32)),
        num_key_value_heads(source.dimension("num_key_value_heads", num_attention_heads)),
        head_dim(source.dimension("head_dim", hidden_size / num_attention_heads)),
        rms_norm_eps(source.number("rms_norm_eps", 1e-6)),
        tie_word_embeddings(source.boolean("tie_word_embeddings", false)),
        rope(read_rope(source, head_dim, 10000.0)),
        windows(read_windows()) {
    if (num_attention_heads % num_key_value_heads != 0) {
      source.refuse("num_key_value_heads", "it must divide num_attention_heads");
    }
  }

  [[nodiscard]] std::vector<std::int64_t> read_windows() const {
    const bool has_window = source.boolean("use_sliding_window", false);
    const std::int64_t window = source.integer("sliding_window", 4096);
    const std::int64_t first = source.integer("max_window_layers", 28);
    std::vector<std::int64_t> result;
    const auto types = source.find_texts("layer_types");
    if (types && std::cmp_not_equal(types->size(), num_hidden_layers)) {
      source.refuse("layer_types", "expected one entry per layer");
    }
    for (std::int64_t i = 0; i < num_hidden_layers; ++i) {
      const bool is_sliding = types ? types->at(static_cast<std::size_t>(i)) == "sliding_attention"
                                    : has_window && i >= first;
      if (types && !is_sliding && types->at(static_cast<std::size_t>(i)) != "full_attention") {
        source.refuse("layer_types", "known layer types are full_attention and sliding_attention");
      }
      if (is_sliding && (!has_window || window < 1)) {
        source.refuse("sliding_window",
                      "a sliding layer needs use_sliding_window and a positive window");
      }
      result.push_back(is_sliding ? window : 0);
    }
    return result;
  }
};

struct LayerContext {
  const RotaryTables& rotary;
  const Value& mask;
  std::int64_t index;
};

Value self_attention(GraphBuilder& g,
                     const Qwen2Config& config,
                     const Value& x,
                     DecoderInputs& inputs,
                     const LayerContext& layer) {
  const auto scope = g.scope("self_attn");
  const std::string key = fmt::format("{}layers.{}.self_attn", config.prefix, layer.index);
  const auto project = [&](std::string_view name, std::int64_t heads) {
    const Value y = [&] {
      const auto inner = g.scope(name);
      return linear(g,
                    x,
                    fmt::format("{}.{}", key, name),
                    config.hidden_size,
                    heads * config.head_dim,
                    Bias::kYes);
    }();
    return split_heads(g, y, heads, config.head_dim);
  };
  const Value query = rotate_halves(g, project("q_proj", config.num_attention_heads), layer.rotary);
  const Value new_key =
      rotate_halves(g, project("k_proj", config.num_key_value_heads), layer.rotary);
  const Value new_value = project("v_proj", config.num_key_value_heads);
  const auto [keys, values] =
      inputs.extend_cache(static_cast<std::size_t>(layer.index), new_key, new_value);
  const AttentionSpec spec{.num_heads = config.num_attention_heads,
                           .num_key_value_heads = config.num_key_value_heads,
                           .head_dim = config.head_dim,
                           .scale = 1 / std::sqrt(static_cast<double>(config.head_dim))};
  const Value context = grouped_attention(g, query, keys, values, layer.mask, spec);
  const auto inner = g.scope("o_proj");
  return linear(g,
                context,
                key + ".o_proj",
                config.num_attention_heads * config.head_dim,
                config.hidden_size,
                Bias::kNo);
}

Value mlp(GraphBuilder& g, const Qwen2Config& config, const Value& x, std::int64_t index) {
  const auto scope = g.scope("mlp");
  const std::string key = fmt::format("{}layers.{}.mlp", config.prefix, index);
  const auto widen = [&](std::string_view name) {
    const auto inner = g.scope(name);
    return linear(g,
                  x,
                  fmt::format("{}.{}", key, name),
                  config.hidden_size,
                  config.intermediate_size,
                  Bias::kNo);
  };
  const Value gate = widen("gate_proj");
  const Value up = widen("up_proj");
  const Value activated = [&] {
    const auto inner = g.scope("act_fn");
    return activation(g, gate, config.source, "hidden_act", "silu");
  }();
  const Value product = g.Mul(activated, up);
  const auto inner = g.scope("down_proj");
  return linear(
      g, product, key + ".down_proj", config.intermediate_size, config.hidden_size, Bias::kNo);
}

Value norm(GraphBuilder& g,
           const Qwen2Config& config,
           const Value& x,
           std::string_view name,
           const std::string& key) {
  const auto scope = g.scope(name);
  return rms_norm(g, x, key, config.hidden_size, config.rms_norm_eps);
}

Value decoder(GraphBuilder& g, const Qwen2Config& config, DecoderInputs& inputs) {
  const auto scope = g.scope("model");
  const RotaryTables rotary = rotary_tables(g, config.rope, inputs.position_ids());
  std::map<std::int64_t, Value> masks;  // one per kind of layer
  for (const std::int64_t window : config.windows) {
    if (!masks.contains(window)) {
      masks.emplace(
          window,
          causal_mask(
              g, inputs.attention_mask, inputs.sequence_length, inputs.total_length, {window}));
    }
  }
  Value x = [&] {
    const auto inner = g.scope("embed_tokens");
    return embedding(
        g, inputs.input_ids, config.prefix + "embed_tokens", config.vocab_size, config.hidden_size);
  }();
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto inner = g.scope(fmt::format("layers.{}", i));
    const std::string key = fmt::format("{}layers.{}", config.prefix, i);
    const LayerContext layer{rotary, masks.at(config.windows[static_cast<std::size_t>(i)]), i};
    x = g.Add(x,
              self_attention(g,
                             config,
                             norm(g, config, x, "input_layernorm", key + ".input_layernorm"),
                             inputs,
                             layer));
    const Value normed =
        norm(g, config, x, "post_attention_layernorm", key + ".post_attention_layernorm");
    x = g.Add(x, mlp(g, config, normed, i));
  }
  return norm(g, config, x, "norm", config.prefix + "norm");
}

void language_model_head(GraphBuilder& g,
                         const Qwen2Config& config,
                         const Value& x,
                         const Value& input_ids) {
  const auto scope = g.scope("lm_head");
  const std::string table = config.prefix + "embed_tokens";
  const Value logits =
      config.tie_word_embeddings
          ? tied_head(g,
                      x,
                      input_ids,
                      {.key = table, .rows = config.vocab_size, .size = config.hidden_size})
          : linear(g, x, "lm_head", config.hidden_size, config.vocab_size, Bias::kNo);
  g.output("logits", logits, {"batch_size", "sequence_length", config.vocab_size});
}

std::vector<BuiltGraph> build_qwen2(const BuildContext& context) {
  const Qwen2Config config(context);
  const std::string_view task = context.base_task();
  GraphBuilder g(context.tensors, context.opset);
  const CacheShape cache{
      .num_layers = config.num_hidden_layers,
      .num_key_value_heads = config.num_key_value_heads,
      .head_dim = config.head_dim,
      .matches_ort_model = config.head_dim == config.hidden_size / config.num_attention_heads};
  DecoderInputs inputs(g,
                       cache,
                       context.has_past() ? PastInputs::kYes : PastInputs::kNo,
                       task == "text-classification" ? PositionInput::kNo : PositionInput::kYes);
  const Value x = decoder(g, config, inputs);
  if (task == "feature-extraction") {
    hidden_state_output(g, x, config.hidden_size);
  } else if (task == "text-classification") {
    context.require_head("score.weight");
    const std::int64_t num_labels = config.source.num_labels();
    const Value pooled = last_token(g, x, inputs, config.source);
    const auto scope = g.scope("score");
    g.output("logits",
             dense(g, pooled, "score", config.hidden_size, num_labels, Bias::kNo),
             {"batch_size", num_labels});
  } else {
    if (!config.tie_word_embeddings) {
      context.require_head("lm_head.weight");
    }
    language_model_head(g, config, x, inputs.input_ids);
  }
  inputs.declare_cache_outputs();
  std::vector<BuiltGraph> graphs;
  graphs.push_back({"model.onnx", std::move(g).finish()});
  return graphs;
}

constexpr std::string_view kTasks[] = {"feature-extraction",
                                       "feature-extraction-with-past",
                                       "text-generation",
                                       "text-generation-with-past",
                                       "text-classification"};

// Heads that the task does not use (a tied checkpoint may still store lm_head: transformers ignores
// it too), and a buffer of old versions.
constexpr std::string_view kIgnoredTensors[] = {
    "lm_head.weight", "score.weight", "*.rotary_emb.inv_freq"};

}  // namespace

extern const Architecture kQwen2;
const Architecture kQwen2{.model_type = "qwen2",
                          .tasks = kTasks,
                          .ignored_tensors = kIgnoredTensors,
                          .build = build_qwen2};

}  // namespace onnxferry
