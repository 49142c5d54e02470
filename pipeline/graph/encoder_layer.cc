#include "pipeline/graph/encoder_layer.h"

#include <cmath>

#include <fmt/format.h>

namespace onnxferry {
namespace {

// "attention.self.query" → "attention.self"
std::string_view parent(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

Value norm(GraphBuilder& g,
           const EncoderLayerSpec& layer,
           const Value& x,
           std::string_view key,
           std::string_view name) {
  const auto scope = g.scope(module_path(parent(name)));
  const std::string full = fmt::format("{}.{}", key, name);
  return layer_norm(g, x, full, layer.hidden_size, layer.layer_norm_eps);
}

Value add_norm(GraphBuilder& g,
               const EncoderLayerSpec& layer,
               const Value& x,
               const Value& residual,
               std::string_view key,
               std::string_view name) {
  const auto scope = g.scope(module_path(parent(name)));
  const std::string full = fmt::format("{}.{}", key, name);
  return layer_norm(g, g.Add(x, residual), full, layer.hidden_size, layer.layer_norm_eps);
}

}  // namespace

Value project(GraphBuilder& g,
              const Value& x,
              std::string_view key,
              std::string_view name,
              std::int64_t in,
              std::int64_t out) {
  const auto scope = g.scope(module_path(name));
  return linear(g, x, fmt::format("{}.{}", key, name), in, out, Bias::kYes);
}

Value plain_attention(GraphBuilder& g,
                      const EncoderLayerSpec& layer,
                      const Value& x,
                      const std::string& key,
                      const Value& mask) {
  const std::int64_t size = layer.hidden_size;
  const Value query = layer.project(g, x, key, layer.keys.query, size, size);
  const Value keys = layer.project(g, x, key, layer.keys.key, size, size);
  const Value values = layer.project(g, x, key, layer.keys.value, size, size);
  const auto scope = g.scope(module_path(parent(layer.keys.query)));
  return encoder_attention(g,
                           query,
                           keys,
                           values,
                           mask,
                           {.num_heads = layer.num_attention_heads,
                            .num_key_value_heads = layer.num_attention_heads,
                            .head_dim = size / layer.num_attention_heads,
                            .scale_on = layer.scale_on});
}

Value rotary_attention(GraphBuilder& g,
                       const EncoderLayerSpec& layer,
                       const Value& x,
                       const std::string& key,
                       const Value& mask,
                       const RotaryTables& tables,
                       Rotated rotated) {
  const std::int64_t size = layer.hidden_size;
  const std::int64_t heads = layer.num_attention_heads;
  const std::int64_t head_dim = size / heads;
  const std::string module = module_path(parent(layer.keys.query));
  const auto projected = [&](std::string_view name, bool turns) {
    const Value y = layer.project(g, x, key, name, size, size);
    const auto scope = g.scope(module);
    const Value split = split_heads(g, y, heads, head_dim);
    return turns ? rotate(g, split, head_dim, tables) : split;
  };
  const Value query = projected(layer.keys.query, true);
  const Value keys = projected(layer.keys.key, true);
  const Value values = projected(layer.keys.value, rotated == Rotated::kValuesToo);
  const auto scope = g.scope(module);
  return grouped_attention(g,
                           query,
                           keys,
                           values,
                           mask,
                           {.num_heads = heads,
                            .num_key_value_heads = heads,
                            .head_dim = head_dim,
                            .scale = 1 / std::sqrt(static_cast<double>(head_dim))});
}

Value encoder_layer(GraphBuilder& g,
                    const EncoderLayerSpec& layer,
                    const Value& x,
                    const std::string& key,
                    const LayerAttention& attention) {
  const EncoderLayerKeys& keys = layer.keys;
  const std::int64_t hidden = layer.hidden_size;
  const std::int64_t wide = layer.intermediate_size;
  const auto attend = [&](const Value& input) {
    return layer.project(g, attention(input), key, keys.attention_output, hidden, hidden);
  };
  const auto feed_forward = [&](const Value& input) {
    const Value widened = layer.project(g, input, key, keys.intermediate, hidden, wide);
    const Value activated = [&] {
      const auto scope = g.scope(keys.activation_scope);
      return layer.activation(g, widened);
    }();
    return layer.project(g, activated, key, keys.output, wide, hidden);
  };
  if (layer.norm_order == NormOrder::kBefore) {
    const Value attended = g.Add(attend(norm(g, layer, x, key, keys.attention_norm)), x);
    return g.Add(feed_forward(norm(g, layer, attended, key, keys.output_norm)), attended);
  }
  const Value attended = add_norm(g, layer, attend(x), x, key, keys.attention_norm);
  return add_norm(g, layer, feed_forward(attended), attended, key, keys.output_norm);
}

}  // namespace onnxferry
