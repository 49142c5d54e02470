#include "pipeline/graph/latent_attention.h"

#include <fmt/format.h>

namespace onnxferry {
namespace {

struct Projection {
  std::string_view name;
  std::int64_t in = 0;
  std::int64_t out = 0;
  Bias bias = Bias::kNo;
};

Value project(GraphBuilder& g,
              const Value& x,
              const std::string& key,
              const Projection& projection) {
  const auto& [name, in, out, bias] = projection;
  const auto scope = g.scope(name);
  return linear(g, x, fmt::format("{}.{}", key, name), in, out, bias);
}

Value norm_latent(GraphBuilder& g,
                  const Value& x,
                  const std::string& key,
                  std::string_view name,
                  std::int64_t size,
                  const NormSpec& norm) {
  const auto scope = g.scope(name);
  return normalize(g, x, fmt::format("{}.{}", key, name), size, norm);
}

/// [B, n, S, plain + rotary], the second part rotated.
Value queries(GraphBuilder& g,
              const Value& x,
              const LatentAttentionSpec& spec,
              const SelfAttentionPlace& place) {
  const std::int64_t head_dim = spec.plain_dim + spec.rotary_dim;
  const std::int64_t out = spec.num_heads * head_dim;
  const std::string& key = place.key;
  const Value all = [&] {
    if (spec.query_rank == 0) {
      return project(g, x, key, {"q_proj", spec.hidden_size, out, Bias::kNo});
    }
    const Value latent =
        project(g, x, key, {"q_a_proj", spec.hidden_size, spec.query_rank, spec.bias});
    const Value normed = norm_latent(g, latent, key, "q_a_layernorm", spec.query_rank, spec.norm);
    return project(g, normed, key, {"q_b_proj", spec.query_rank, out, Bias::kNo});
  }();
  const std::int64_t sizes[] = {spec.plain_dim, spec.rotary_dim};
  const auto parts = g.Split(split_heads(g, all, spec.num_heads, head_dim), sizes, -1);
  return g.Concat({parts[0], rotate(g, parts[1], spec.rotary_dim, *place.rotary)}, -1);
}

struct KeyValue {
  Value key, value;
};

/// Keys [B, n, S, plain + rotary] and values [B, n, S, value_dim].
KeyValue keys_and_values(GraphBuilder& g,
                         const Value& x,
                         const LatentAttentionSpec& spec,
                         const SelfAttentionPlace& place) {
  const std::string& key = place.key;
  const std::int64_t rank = spec.key_value_rank;
  const Value compressed = project(
      g, x, key, {"kv_a_proj_with_mqa", spec.hidden_size, rank + spec.rotary_dim, spec.bias});
  const std::int64_t latent_sizes[] = {rank, spec.rotary_dim};
  const auto latent = g.Split(compressed, latent_sizes, -1);
  const Value normed = norm_latent(g, latent[0], key, "kv_a_layernorm", rank, spec.norm);
  const std::int64_t head_dim = spec.plain_dim + spec.value_dim;
  const Value heads =
      project(g, normed, key, {"kv_b_proj", rank, spec.num_heads * head_dim, Bias::kNo});
  const std::int64_t head_sizes[] = {spec.plain_dim, spec.value_dim};
  const auto parts = g.Split(split_heads(g, heads, spec.num_heads, head_dim), head_sizes, -1);
  const Value rotated =
      rotate(g, g.Unsqueeze(latent[1], {1}), spec.rotary_dim, *place.rotary);  // [B, 1, S, r]
  const Value shared = g.Expand(rotated, g.ints({1, spec.num_heads, 1, 1}));
  return {g.Concat({parts[0], shared}, -1), parts[1]};
}

}  // namespace

Value latent_attention(GraphBuilder& g,
                       const Value& x,
                       DecoderInputs& inputs,
                       const LatentAttentionSpec& spec,
                       const SelfAttentionPlace& place) {
  const Value query = queries(g, x, spec, place);
  const KeyValue current = keys_and_values(g, x, spec, place);
  const auto [keys, values] = inputs.extend_cache(place.layer, current.key, current.value);
  const AttentionSpec attention{.num_heads = spec.num_heads,
                                .num_key_value_heads = spec.num_heads,
                                .head_dim = spec.plain_dim + spec.rotary_dim,
                                .scale = spec.scale,
                                .value_head_dim = spec.value_dim};
  const Value context = grouped_attention(g, query, keys, values, *place.mask, attention);
  const std::int64_t size = spec.num_heads * spec.value_dim;
  return project(g, context, place.key, {"o_proj", size, spec.hidden_size, spec.bias});
}

}  // namespace onnxferry
