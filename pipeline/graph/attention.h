#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "pipeline/graph/builder.h"

namespace onnxferry {

/// Padding and causality as one additive mask [B, 1, S, T]: 0 where a query may look, `lowest`
/// elsewhere.
struct CausalMaskSpec {
  std::int64_t sliding_window = 0;  ///< keys a query sees, itself included; 0: all earlier ones
  /// In place of the 0, [B or 1, num_heads, 1 or S, T] (ALiBi); the mask has its heads, then.
  std::optional<Value> bias = std::nullopt;
};

/// \param attention_mask   [B, T] int64, 1 for real tokens
/// \param sequence_length  [1] int64, S; queries are the last S of the T positions
/// \param total_length     [1] int64, T
/// Source: create_causal_mask and sliding_window_causal_mask_function in
/// transformers/masking_utils.py.
Value causal_mask(GraphBuilder& g,
                  const Value& attention_mask,
                  const Value& sequence_length,
                  const Value& total_length,
                  const CausalMaskSpec& spec);

/// Padding only: (1 - mask) * lowest, [B, 1, 1, T], node by node the form that ONNX Runtime's
/// attention fusion looks for (Unsqueeze, Unsqueeze, Cast, Sub, Mul).
Value padding_mask(GraphBuilder& g, const Value& attention_mask);

/// Where an encoder applies 1 / √head_dim: transformers' classes differ, and float16 rounding with
/// them.
enum class ScaleOn : std::uint8_t { kScores, kQuery };

struct AttentionSpec {
  std::int64_t num_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  double scale = 1.0;                   ///< of the scores; decoders
  double softcap = 0.0;                 ///< scores become softcap · tanh(scores / softcap); 0: none
  std::int64_t value_head_dim = 0;      ///< where values are of another size; 0: head_dim
  std::optional<Value> sinks;           ///< [num_heads, 1, 1], one more logit per head and softmax
  ScaleOn scale_on = ScaleOn::kScores;  ///< encoders
};

/// Causal attention of grouped heads. No key or value is repeated: the query heads of a group
/// become rows.
///
/// \param query  [B, num_heads, S, head_dim]
/// \param key, value  [B, num_key_value_heads, T, head_dim]
/// \param mask   additive, [B, 1 or num_heads, S, T]
/// \return       [B, S, num_heads * head_dim]
///
///   q → Reshape [B, kv, g·S, d] → Mul scale → MatMul kᵀ → Reshape [B, n, S, T] → Add mask →
///   Softmax
///     → Reshape [B, kv, g·S, T] → MatMul v → Reshape [B, n, S, d] → Transpose → Reshape [B, S,
///     n·d]
Value grouped_attention(GraphBuilder& g,
                        const Value& query,
                        const Value& key,
                        const Value& value,
                        const Value& mask,
                        const AttentionSpec& spec);

/// Split [B, S, heads * head_dim] into [B, heads, S, head_dim].
Value split_heads(GraphBuilder& g, const Value& x, std::int64_t heads, std::int64_t head_dim);

/// Bidirectional attention of an encoder, in the form that ONNX Runtime fuses to one Attention
/// node.
///
/// \param query, key, value  [B, S, num_heads * head_dim], biases added
/// \param mask               additive, from padding_mask
Value encoder_attention(GraphBuilder& g,
                        const Value& query,
                        const Value& key,
                        const Value& value,
                        const Value& mask,
                        const AttentionSpec& spec);

}  // namespace onnxferry
