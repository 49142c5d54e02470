// What decoders' files read from config.json alike.

#include <cmath>

#include <fmt/format.h>

#include "pipeline/architectures/decoder.h"
#include "pipeline/error.h"

namespace onnxferry {

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
  spec.pad_token_id = defaults.pad_token_id;
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
