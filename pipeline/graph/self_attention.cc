#include "pipeline/graph/self_attention.h"

#include <fmt/format.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

Value clipped(GraphBuilder& g, const Value& x, double clip) {
  if (clip <= 0) {
    return x;
  }
  const auto bound = static_cast<float>(clip);
  return g.Min(g.Max(x, g.float_scalar(-bound)), g.float_scalar(bound));
}

/// Statistics per head, one weight row per head.
Value norm_own_per_head(GraphBuilder& g,
                        const Value& x,
                        const SelfAttentionSpec& spec,
                        std::string_view key,
                        std::int64_t heads) {
  const NormKind plain = NormKind::kLayerWithoutAffine;
  EXPORT_CHECK(spec.qk_norm_spec.kind == NormKind::kLayerWithoutBias,
               "a norm of every head's own is a layer norm without bias");
  const Value normalized = normalize(g, x, "", spec.head_dim, {plain, spec.qk_norm_spec.epsilon});
  const std::string name = std::string(key) + ".weight";
  const auto rows = [&](const TensorInfo& tensor, std::int64_t count) {
    const Shape shape = {count, 1, spec.head_dim};
    return cast(view(tensor, 0, shape, {spec.head_dim, spec.head_dim, 1}), Dtype::kFloat32);
  };
  if (spec.qk_norm == QkNorm::kOwnPerHead) {
    const Recipe all = rows(g.tensor(name, {heads, spec.head_dim}), heads);
    return g.Mul(normalized, g.initializer(name, all));
  }
  std::vector<Recipe> parts;
  for (std::int64_t head = 0; head < heads; ++head) {
    const std::string part = fmt::format("{}.norms.{}.weight", key, head);
    parts.push_back(rows(g.tensor(part, {spec.head_dim}), 1));
  }
  return g.Mul(normalized, g.initializer(name, concat(std::move(parts))));
}

Value head_norm(GraphBuilder& g,
                const Value& x,
                const SelfAttentionSpec& spec,
                const std::string& key,
                std::string_view name,
                std::int64_t heads) {
  const auto scope = g.scope(name);
  const std::string full = fmt::format("{}.{}", key, name);
  return spec.qk_norm == QkNorm::kPerHead ? normalize(g, x, full, spec.head_dim, spec.qk_norm_spec)
                                          : norm_own_per_head(g, x, spec, full, heads);
}

bool norms_heads(const SelfAttentionSpec& spec) {
  return spec.qk_norm != QkNorm::kNone && spec.qk_norm != QkNorm::kAllHeads;
}

void norm_heads(GraphBuilder& g,
                QueryKeyValue& qkv,
                const SelfAttentionSpec& spec,
                const std::string& key) {
  qkv.query = head_norm(g, qkv.query, spec, key, spec.query_norm_name, spec.num_heads);
  qkv.key = head_norm(g, qkv.key, spec, key, spec.key_norm_name, spec.num_key_value_heads);
}

QueryKeyValue project_separately(GraphBuilder& g,
                                 const Value& x,
                                 const SelfAttentionSpec& spec,
                                 const std::string& key) {
  const auto project = [&](std::string_view name, std::int64_t heads, std::string_view norm) {
    Value y = [&] {
      const auto inner = g.scope(name);
      const std::string full = fmt::format("{}.{}", key, name);
      return spec.linear(g, x, full, spec.hidden_size, heads * spec.head_dim, spec.qkv_bias);
    }();
    if (!norm.empty() && spec.qk_norm == QkNorm::kAllHeads) {
      const auto inner = g.scope(norm);
      const std::string full = fmt::format("{}.{}", key, norm);
      y = normalize(g, y, full, heads * spec.head_dim, spec.qk_norm_spec);
    }
    const Value cut = [&] {
      const auto inner = g.scope(name);
      return clipped(g, y, spec.clip);
    }();
    return split_heads(g, cut, heads, spec.head_dim);
  };
  QueryKeyValue qkv;
  qkv.query = project(spec.query_name, spec.num_heads, spec.query_norm_name);
  qkv.key = project(spec.key_name, spec.num_key_value_heads, spec.key_norm_name);
  qkv.value = project(spec.value_name, spec.num_key_value_heads, "");
  return qkv;
}

// [B, S, kv · (g + 2) · d] → [B, kv, g + 2, S, d] → the parts of each group.
QueryKeyValue split_groups(GraphBuilder& g, const Value& y, const SelfAttentionSpec& spec) {
  const std::int64_t groups = spec.num_key_value_heads;
  const std::int64_t queries = spec.num_heads / groups;
  if (queries == 1) {  // one query head a group: three parts of every head
    const std::int64_t sizes[] = {spec.head_dim, spec.head_dim, spec.head_dim};
    const auto parts = g.Split(split_heads(g, y, groups, 3 * spec.head_dim), sizes, -1);
    return {parts[0], parts[1], parts[2]};
  }
  const Value heads = split_heads(g, y, groups * (queries + 2), spec.head_dim);
  const Value grouped = g.Reshape(heads, g.ints({0, groups, queries + 2, -1, spec.head_dim}));
  const std::int64_t sizes[] = {queries, 1, 1};
  const auto parts = g.Split(grouped, sizes, 2);
  const auto join = [&](const Value& part, std::int64_t count) {
    return g.Reshape(part, g.ints({0, groups * count, -1, spec.head_dim}));
  };
  return {join(parts[0], queries), join(parts[1], 1), join(parts[2], 1)};
}

QueryKeyValue project_together(GraphBuilder& g,
                               const Value& x,
                               const SelfAttentionSpec& spec,
                               const std::string& key) {
  const std::int64_t query_size = spec.num_heads * spec.head_dim;
  const std::int64_t key_size = spec.num_key_value_heads * spec.head_dim;
  const Value y = [&] {
    const auto scope = g.scope(spec.qkv_name);
    const std::string full = fmt::format("{}.{}", key, spec.qkv_name);
    return clipped(
        g,
        spec.linear(g, x, full, spec.hidden_size, query_size + 2 * key_size, spec.qkv_bias),
        spec.clip);
  }();
  if (spec.form == QkvForm::kGrouped) {
    return split_groups(g, y, spec);
  }
  const std::int64_t sizes[] = {query_size, key_size, key_size};
  const auto parts = g.Split(y, sizes, -1);
  return {split_heads(g, parts[0], spec.num_heads, spec.head_dim),
          split_heads(g, parts[1], spec.num_key_value_heads, spec.head_dim),
          split_heads(g, parts[2], spec.num_key_value_heads, spec.head_dim)};
}

}  // namespace

QueryKeyValue project_query_key_value(GraphBuilder& g,
                                      const Value& x,
                                      const SelfAttentionSpec& spec,
                                      const std::string& key) {
  QueryKeyValue qkv = spec.form == QkvForm::kSeparate ? project_separately(g, x, spec, key)
                                                      : project_together(g, x, spec, key);
  if (norms_heads(spec) && spec.norm_order == SelfAttentionSpec::NormOrder::kBeforeRotary) {
    norm_heads(g, qkv, spec, key);
  }
  return qkv;
}

Value attend(GraphBuilder& g,
             QueryKeyValue qkv,
             DecoderInputs& inputs,
             const SelfAttentionSpec& spec,
             const SelfAttentionPlace& place) {
  if (place.rotary != nullptr) {
    qkv.query = rotate(g, qkv.query, spec.head_dim, *place.rotary);
    qkv.key = rotate(g, qkv.key, spec.head_dim, *place.rotary);
  }
  if (norms_heads(spec) && spec.norm_order == SelfAttentionSpec::NormOrder::kAfterRotary) {
    norm_heads(g, qkv, spec, place.key);
  }
  const std::pair<Value, Value> all = inputs.extend_cache(place.layer, qkv.key, qkv.value);
  AttentionSpec attention{.num_heads = spec.num_heads,
                          .num_key_value_heads = spec.num_key_value_heads,
                          .head_dim = spec.head_dim,
                          .scale = spec.scale,
                          .softcap = spec.softcap};
  if (!spec.sinks_name.empty()) {
    const std::string name = fmt::format("{}.{}", place.key, spec.sinks_name);
    attention.sinks = g.initializer(
        name,
        cast(view(g.tensor(name, {spec.num_heads}), 0, {spec.num_heads, 1, 1}, {1, 1, 1}),
             Dtype::kFloat32));
  }
  const Value context = [&] {
    const bool in_float32 = spec.scores == SelfAttentionSpec::Scores::kFloat32;
    const auto precision = in_float32 ? g.float32_scope("") : g.scope("");
    return grouped_attention(g, qkv.query, all.first, all.second, *place.mask, attention);
  }();
  const auto scope = g.scope(spec.output_name);
  return spec.linear(g,
                     context,
                     fmt::format("{}.{}", place.key, spec.output_name),
                     spec.num_heads * spec.head_dim,
                     spec.hidden_size,
                     spec.output_bias);
}

Value self_attention(GraphBuilder& g,
                     const Value& x,
                     DecoderInputs& inputs,
                     const SelfAttentionSpec& spec,
                     const SelfAttentionPlace& place) {
  return attend(g, project_query_key_value(g, x, spec, place.key), inputs, spec, place);
}

}  // namespace onnxferry
