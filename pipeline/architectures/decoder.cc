#include "pipeline/architectures/decoder.h"

#include <cmath>
#include <map>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/graph/heads.h"

namespace onnxferry {
namespace {

/// What a whole walk through the layers shares.
struct Walk {
  GraphBuilder& g;
  const DecoderSpec& spec;
  DecoderInputs& inputs;
  std::string base;                     // "model." or ""
  std::vector<RotaryTables> rotary;     // by DecoderSpec::ropes
  std::map<std::int64_t, Value> masks;  // by window
};

Value scaled(GraphBuilder& g, const Value& x, double factor) {
  return factor == 1.0 ? x : g.Mul(x, g.float_scalar(static_cast<float>(factor)));
}

Value norm(const Walk& walk, const Value& x, std::string_view name, const std::string& parent) {
  if (name.empty()) {
    return x;
  }
  const auto scope = walk.g.scope(name);
  return normalize(
      walk.g, x, fmt::format("{}{}", parent, name), walk.spec.hidden_size, walk.spec.norm);
}

Value attention_block(Walk& walk, const Value& x, std::size_t index, const std::string& parent) {
  const auto scope = walk.g.scope(module_path(walk.spec.names.attention));
  const DecoderLayer& layer = walk.spec.layers[index];
  const bool rotates = layer.rope != kNoRope && !walk.rotary.empty();
  const SelfAttentionPlace place{
      .key = fmt::format("{}{}", parent, walk.spec.names.attention),
      .layer = index,
      .rotary = rotates ? &walk.rotary.at(static_cast<std::size_t>(layer.rope)) : nullptr,
      .mask = &walk.masks.at(layer.window)};
  return walk.spec.attend ? walk.spec.attend(walk.g, x, walk.inputs, place)
                          : self_attention(walk.g, x, walk.inputs, walk.spec.attention, place);
}

Value feed_forward_block(Walk& walk, const Value& x, std::size_t index, const std::string& parent) {
  const auto scope = walk.g.scope(walk.spec.names.mlp);
  const std::string key = walk.spec.names.mlp.empty()
                              ? parent.substr(0, parent.size() - 1)
                              : fmt::format("{}{}", parent, walk.spec.names.mlp);
  return walk.spec.feed_forward ? walk.spec.feed_forward(walk.g, x, index, key)
                                : feed_forward(walk.g, x, walk.spec.mlp, key);
}

Value layer(Walk& walk, const Value& x, std::size_t index) {
  const DecoderNames& names = walk.spec.names;
  const auto scope = walk.g.scope(fmt::format("{}.{}", names.layers, index));
  const std::string key = fmt::format("{}{}.{}.", walk.base, names.layers, index);
  const auto add = [&](const Value& stream, const Value& result) {
    return walk.g.Add(stream, scaled(walk.g, result, walk.spec.residual_multiplier));
  };
  if (walk.spec.residual == Residual::kNormAfter) {
    const Value attended =
        norm(walk, add(x, attention_block(walk, x, index, key)), names.pre_attention_norm, key);
    return norm(walk,
                add(attended, feed_forward_block(walk, attended, index, key)),
                names.pre_mlp_norm,
                key);
  }
  const Value normed = norm(walk, x, names.pre_attention_norm, key);
  const Value attended =
      norm(walk, attention_block(walk, normed, index, key), names.post_attention_norm, key);
  if (walk.spec.residual == Residual::kParallel) {
    const Value input =
        names.pre_mlp_norm.empty() ? normed : norm(walk, x, names.pre_mlp_norm, key);
    const Value widened = feed_forward_block(walk, input, index, key);
    return add(add(x, attended), norm(walk, widened, names.post_mlp_norm, key));
  }
  const bool from_norm = walk.spec.residual == Residual::kFromNorm;
  const Value stream = add(from_norm ? normed : x, attended);
  const Value input = norm(walk, stream, names.pre_mlp_norm, key);
  const Value widened = feed_forward_block(walk, input, index, key);
  return add(from_norm ? input : stream, norm(walk, widened, names.post_mlp_norm, key));
}

void build_masks(Walk& walk) {
  std::optional<Value> bias;
  if (walk.spec.attention_bias) {
    bias = walk.spec.attention_bias(walk.g, walk.inputs);
  }
  for (const DecoderLayer& layer : walk.spec.layers) {
    if (walk.masks.contains(layer.window)) {
      continue;
    }
    walk.masks.emplace(layer.window,
                       causal_mask(walk.g,
                                   walk.inputs.attention_mask,
                                   walk.inputs.sequence_length,
                                   walk.inputs.total_length,
                                   {layer.window, bias}));
  }
}

/// Whether the graph's head reads the embedding's table: then both share the transposed one.
bool shares_table(const DecoderSpec& spec, std::string_view task) {
  return spec.is_tied && task == "text-generation";
}

std::int64_t embedding_size(const DecoderSpec& spec) {
  return spec.embedding_size > 0 ? spec.embedding_size : spec.hidden_size;
}

Value embed(Walk& walk, std::string_view task) {
  const DecoderSpec& spec = walk.spec;
  const std::string key = fmt::format("{}{}", walk.base, spec.names.embedding);
  const std::int64_t size = embedding_size(spec);
  const Value words = [&] {
    const auto scope = walk.g.scope(spec.names.embedding);
    const Value& ids = walk.inputs.input_ids;
    return scaled(walk.g,
                  shares_table(spec, task) ? tied_embedding(walk.g, ids, key, spec.vocab_size, size)
                                           : embedding(walk.g, ids, key, spec.vocab_size, size),
                  spec.embedding_multiplier);
  }();
  return spec.after_embedding ? spec.after_embedding(walk.g, walk.inputs, words, walk.base) : words;
}

/// Hidden state [B, S, H] behind the last norm.
Value hidden_state(Walk& walk, std::string_view task) {
  GraphBuilder& g = walk.g;
  const auto scope = g.scope(module_path(walk.spec.names.base));
  for (const RopeConfig& rope : walk.spec.ropes) {
    walk.rotary.push_back(
        rotary_tables(g, rope, walk.inputs.position_ids(), walk.spec.rotary_layout));
  }
  build_masks(walk);
  Value x = embed(walk, task);
  for (std::size_t i = 0; i < walk.spec.layers.size(); ++i) {
    x = layer(walk, x, i);
  }
  x = norm(walk, x, walk.spec.names.final_norm, walk.base);
  return walk.spec.after_layers ? walk.spec.after_layers(g, x, walk.base) : x;
}

void language_model_head(const Walk& walk, const Value& x) {
  GraphBuilder& g = walk.g;
  const DecoderSpec& spec = walk.spec;
  const auto scope = g.scope(spec.names.head);
  const std::int64_t size = embedding_size(spec);
  const std::string key = spec.is_tied ? fmt::format("{}{}", walk.base, spec.names.embedding)
                                       : std::string(spec.names.head);
  Value logits = linear(g, x, key, size, spec.vocab_size, Bias::kNo);
  if (spec.head_bias == Bias::kYes) {
    logits = g.Add(logits, g.weight(fmt::format("{}.bias", spec.names.head), {spec.vocab_size}));
  }
  logits = scaled(g, logits, spec.logits_multiplier);
  if (spec.logits_softcap > 0) {
    const Value cap = g.float_scalar(static_cast<float>(spec.logits_softcap));
    logits = g.Mul(g.Tanh(g.Div(logits, cap)), cap);
  }
  g.output("logits", logits, {"batch_size", "sequence_length", spec.vocab_size});
}

void sequence_classifier(const Walk& walk, const BuildContext& context, const Value& x) {
  context.require_head("score.weight");
  const std::int64_t num_labels = context.config.num_labels();
  const Value pooled =
      last_token(walk.g, x, walk.inputs, context.config, walk.spec.classified_token);
  const auto scope = walk.g.scope("score");
  walk.g.output("logits",
                dense(walk.g, pooled, "score", embedding_size(walk.spec), num_labels, Bias::kNo),
                {"batch_size", num_labels});
}

CacheShape cache_shape(const DecoderSpec& spec) {
  const SelfAttentionSpec& attention = spec.attention;
  const auto or_else = [](std::int64_t own, std::int64_t usual) { return own > 0 ? own : usual; };
  CacheShape cache{.num_layers = static_cast<std::int64_t>(spec.layers.size()),
                   .num_key_value_heads = or_else(spec.cache_heads, attention.num_key_value_heads),
                   .head_dim = or_else(spec.cache_key_dim, attention.head_dim),
                   .value_head_dim = or_else(spec.cache_value_dim, attention.head_dim)};
  const std::int64_t ort_model_heads =
      spec.ort_model_reads_key_value_heads ? attention.num_key_value_heads : attention.num_heads;
  const bool heads_match = cache.num_key_value_heads == ort_model_heads;
  const bool size_matches =
      spec.ort_model_reads_head_dim || cache.head_dim == spec.hidden_size / attention.num_heads;
  cache.matches_ort_model = heads_match && size_matches;
  return cache;
}

/// The base module's prefix as the checkpoint has it: "model.decoder.", "decoder." or "".
std::string stored_base(const GraphBuilder& g, const DecoderNames& names) {
  std::string base = fmt::format("{}.", names.base);
  while (!base.empty() && !g.has_tensor(fmt::format("{}{}.weight", base, names.embedding))) {
    base.erase(0, base.find('.') + 1);
  }
  return base;
}

}  // namespace

std::vector<BuiltGraph> build_decoder(const BuildContext& context, const DecoderSpec& spec) {
  const std::string_view task = context.base_task();
  GraphBuilder g(context.tensors, context.opset);
  DecoderInputs inputs(g,
                       cache_shape(spec),
                       context.has_past() ? PastInputs::kYes : PastInputs::kNo,
                       task == "text-generation" || task == "feature-extraction"
                           ? spec.position_input
                           : spec.classifier_positions);
  Walk walk{.g = g, .spec = spec, .inputs = inputs, .base = stored_base(g, spec.names)};
  const Value x = hidden_state(walk, task);
  if (task == "feature-extraction") {
    hidden_state_output(g, x, embedding_size(spec));
  } else if (task == "text-classification") {
    sequence_classifier(walk, context, x);
  } else if (task == "token-classification") {
    const std::string_view head = spec.names.token_classifier;
    context.require_head(fmt::format("{}.weight", head));
    token_classification_head(g, x, head, embedding_size(spec), context.config.num_labels());
  } else if (task == "question-answering") {
    context.require_head("qa_outputs.weight");
    question_answering_head(g, x, "qa_outputs", embedding_size(spec));
  } else {
    EXPORT_CHECK(task == "text-generation", "a decoder has no such task");
    if (!spec.is_tied) {
      context.require_head(fmt::format("{}.weight", spec.names.head));
    }
    language_model_head(walk, x);
  }
  inputs.declare_cache_outputs();
  std::vector<BuiltGraph> graphs;
  graphs.push_back({"model.onnx", std::move(g).finish()});
  return graphs;
}

std::vector<DecoderLayer> plain_layers(std::int64_t count) {
  constexpr std::int64_t kMaxLayers = 4096;
  if (count > kMaxLayers) {
    throw Error(
        ErrorCode::kUnsupportedModel,
        fmt::format(
            "config.json gives the model {} layers, expected at most {}", count, kMaxLayers),
        "num_hidden_layers");
  }
  return std::vector<DecoderLayer>(static_cast<std::size_t>(count));
}

DecoderSpec read_llama(const ModelConfig& config, const LlamaDefaults& defaults) {
  DecoderSpec spec;
  spec.vocab_size = config.dimension("vocab_size", defaults.vocab_size);
  spec.hidden_size = config.dimension("hidden_size", defaults.hidden_size);
  spec.norm.epsilon = config.number("rms_norm_eps", defaults.rms_norm_eps);
  spec.is_tied = config.boolean("tie_word_embeddings", defaults.tie_word_embeddings);
  spec.layers = plain_layers(config.dimension("num_hidden_layers", defaults.num_hidden_layers));

  SelfAttentionSpec& attention = spec.attention;
  attention.hidden_size = spec.hidden_size;
  attention.num_heads = config.dimension("num_attention_heads", defaults.num_attention_heads);
  attention.num_key_value_heads = config.dimension(
      "num_key_value_heads",
      defaults.num_key_value_heads > 0 ? defaults.num_key_value_heads : attention.num_heads);
  if (attention.num_heads % attention.num_key_value_heads != 0) {
    config.refuse("num_key_value_heads", "it must divide num_attention_heads");
  }
  attention.head_dim = config.dimension(
      "head_dim",
      defaults.head_dim > 0 ? defaults.head_dim : spec.hidden_size / attention.num_heads);
  attention.scale = 1 / std::sqrt(static_cast<double>(attention.head_dim));
  attention.qk_norm_spec = spec.norm;

  spec.mlp.hidden_size = spec.hidden_size;
  spec.mlp.intermediate_size = config.dimension("intermediate_size", defaults.intermediate_size);
  if (!defaults.hidden_act.empty()) {
    spec.mlp.activation = read_activation(config, "hidden_act", defaults.hidden_act);
  }

  const double partial = config.number("partial_rotary_factor", defaults.partial_rotary_factor);
  const auto rotary_dim =
      static_cast<std::int64_t>(static_cast<double>(attention.head_dim) * partial);
  spec.ropes = {read_rope(config, rotary_dim, defaults.rope_theta)};
  return spec;
}

void read_biases(const ModelConfig& config, DecoderSpec& spec) {
  const auto bias = [&](std::string_view key) {
    return config.boolean(key, false) ? Bias::kYes : Bias::kNo;
  };
  spec.attention.qkv_bias = spec.attention.output_bias = bias("attention_bias");
  spec.mlp.bias = bias("mlp_bias");
}

std::int64_t aliased_dimension(const ModelConfig& config,
                               std::string_view key,
                               std::string_view alias,
                               std::int64_t when_absent) {
  return config.dimension(alias, config.dimension(key, when_absent));
}

void set_plain_heads(const ModelConfig& config, DecoderSpec& spec) {
  SelfAttentionSpec& attention = spec.attention;
  if (spec.hidden_size % attention.num_heads != 0) {
    config.refuse("num_attention_heads", "it must divide hidden_size");
  }
  attention.hidden_size = spec.hidden_size;
  attention.num_key_value_heads = attention.num_heads;
  attention.head_dim = spec.hidden_size / attention.num_heads;
  attention.scale = 1 / std::sqrt(static_cast<double>(attention.head_dim));
}

void add_learned_positions(DecoderSpec& spec,
                           std::string_view name,
                           std::int64_t rows,
                           std::int64_t offset) {
  spec.after_embedding =
      [=, size = spec.hidden_size](
          GraphBuilder& g, DecoderInputs& inputs, const Value& words, const std::string& base) {
        const auto scope = g.scope(name);
        const Value positions = inputs.position_ids();
        const Value rows_at = offset == 0 ? positions : g.Add(positions, g.int_scalar(offset));
        return g.Add(words, embedding(g, rows_at, fmt::format("{}{}", base, name), rows, size));
      };
}

void read_windows(const ModelConfig& config,
                  DecoderSpec& spec,
                  std::optional<std::int64_t> window,
                  const std::function<bool(std::int64_t layer)>& is_sliding) {
  const auto types = config.find_texts("layer_types");
  if (types && types->size() != spec.layers.size()) {
    config.refuse("layer_types", "expected one entry per layer");
  }
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const bool slides =
        types ? types->at(i) == "sliding_attention" : is_sliding(static_cast<std::int64_t>(i));
    if (types && !slides && types->at(i) != "full_attention") {
      config.refuse("layer_types", "known layer types are full_attention and sliding_attention");
    }
    if (slides && (!window || *window < 1)) {
      config.refuse("sliding_window", "a sliding layer needs a positive window");
    }
    spec.layers[i].window = slides ? *window : 0;
  }
}

std::int64_t read_window_pattern(const ModelConfig& config, std::int64_t when_absent) {
  config.disregard("_sliding_window_pattern");  // a private attribute that some versions save
  if (config.has("layer_types")) {
    config.disregard("sliding_window_pattern");
    return when_absent;
  }
  return config.dimension("sliding_window_pattern", when_absent);
}

void read_qwen_windows(const ModelConfig& config, DecoderSpec& spec) {
  const bool has_window = config.boolean("use_sliding_window", false);
  const std::int64_t window = config.integer("sliding_window", 4096);
  const std::int64_t first = config.integer("max_window_layers", 28);
  read_windows(
      config, spec, has_window ? std::optional(window) : std::nullopt, [&](std::int64_t layer) {
        return has_window && layer >= first;
      });
}

}  // namespace onnxferry
