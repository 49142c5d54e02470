// DiffLlama (Ye et al. 2024; weights by Kajuma 2025): Llama whose attention is the difference of
// two softmaxes, so that what both see in common cancels.
//
// Head i of the first half and head i of the second share a value, which is both halves' values
// side by side; the second's weights count -lambda, learned per layer around 0.8 - 0.6 exp(-0.3
// layer). The result is normalized per pair of heads without a weight. Source:
// transformers/models/diffllama/modeling_diffllama.py.

#include <cmath>

#include <fmt/format.h>

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

/// exp(q1 · k1) - exp(q2 · k2) + initial, [1].
Value difference_weight(GraphBuilder& g,
                        const SelfAttentionSpec& spec,
                        const std::string& key,
                        double initial) {
  const auto scope = g.float32_scope("lambda");
  const auto factor = [&](int index) {
    const Value q = g.weight(fmt::format("{}.lambda_q{}", key, index), {spec.head_dim});
    const Value k = g.weight(fmt::format("{}.lambda_k{}", key, index), {spec.head_dim});
    return g.Exp(g.ReduceSum(g.Mul(q, k), -1));
  };
  const Value first = factor(1);
  return g.Add(g.Sub(first, factor(2)), g.float_scalar(static_cast<float>(initial)));
}

/// x / sqrt(mean(x²) + epsilon) * scale
Value normalized_pairs(GraphBuilder& g, const Value& x, double epsilon, double scale) {
  const auto scope = g.float32_scope("groupnorm");
  const Value mean = g.ReduceMean(g.Pow(x, g.float_scalar(2.0F)));
  const Value root = g.Sqrt(g.Add(mean, g.float_scalar(static_cast<float>(epsilon))));
  return g.Mul(g.Div(x, root), g.float_scalar(static_cast<float>(scale)));
}

Value differential_attention(GraphBuilder& g,
                             const Value& x,
                             DecoderInputs& inputs,
                             const SelfAttentionSpec& spec,
                             const SelfAttentionPlace& place) {
  const std::int64_t pairs = spec.num_heads / 2;
  const std::int64_t size = 2 * spec.head_dim;
  QueryKeyValue qkv = project_query_key_value(g, x, spec, place.key);
  qkv.query = rotate(g, qkv.query, spec.head_dim, *place.rotary);
  qkv.key = rotate(g, qkv.key, spec.head_dim, *place.rotary);
  const auto [keys, values] = inputs.extend_cache(place.layer, qkv.key, qkv.value);
  // As in grouped_attention the query heads of a group are rows.
  const std::int64_t groups = spec.num_key_value_heads;
  const Value queries = g.Reshape(g.Mul(qkv.query, g.float_scalar(static_cast<float>(spec.scale))),
                                  g.ints({0, groups, -1, spec.head_dim}));
  const Value scores = g.Reshape(g.MatMul(queries, g.Transpose(keys, {0, 1, 3, 2})),
                                 g.ints({0, spec.num_heads, -1, 0}));
  // The last axis is 0 in the shape: Reshape copies T, which both have in the same place.
  const auto [seen, common] = g.Split(g.Softmax(g.Add(scores, *place.mask)), 1);
  const double initial = 0.8 - 0.6 * std::exp(-0.3 * static_cast<double>(place.layer));
  const Value weights = g.Sub(seen, g.Mul(common, difference_weight(g, spec, place.key, initial)));
  const auto [first, second] = g.Split(values, 1);
  const Value pair_values = g.Concat({first, second}, -1);  // [B, kv / 2, T, 2 d]
  const Value rows = g.Reshape(weights, g.ints({0, groups / 2, -1, 0}));
  const Value context = g.Reshape(g.MatMul(rows, pair_values), g.ints({0, pairs, -1, size}));
  const Value normed = normalized_pairs(g, context, spec.qk_norm_spec.epsilon, 1 - initial);
  const Value joined =
      g.Reshape(g.Transpose(normed, {0, 2, 1, 3}), g.ints({0, 0, spec.num_heads * spec.head_dim}));
  const auto scope = g.scope(spec.output_name);
  return linear(g,
                joined,
                fmt::format("{}.{}", place.key, spec.output_name),
                spec.num_heads * spec.head_dim,
                spec.hidden_size,
                spec.output_bias);
}

std::vector<BuiltGraph> build_diffllama(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32000,
                                 .hidden_size = 2048,
                                 .intermediate_size = 8192,
                                 .num_hidden_layers = 16,
                                 .num_attention_heads = 32,
                                 .rms_norm_eps = 1e-5});
  spec.attention.qkv_bias = spec.attention.output_bias =
      config.boolean("attention_bias", false) ? Bias::kYes : Bias::kNo;
  if (spec.attention.num_key_value_heads % 2 != 0) {
    config.refuse("num_key_value_heads", "only an even number is implemented: heads come in pairs");
  }
  config.disregard("lambda_std_dev");  // of the initialisation
  spec.attend =
      [attention = spec.attention](
          GraphBuilder& g, const Value& x, DecoderInputs& inputs, const SelfAttentionPlace& place) {
        return differential_attention(g, x, inputs, attention, place);
      };
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kDiffLlama;
const Architecture kDiffLlama{.model_type = "diffllama",
                              .tasks = kAllDecoderTasks,
                              .ignored_tensors = kDecoderIgnoredTensors,
                              .build = build_diffllama};

}  // namespace onnxferry
