#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "pipeline/graph/attention.h"
#include "pipeline/graph/layers.h"
#include "pipeline/graph/rotary.h"

namespace onnxferry {

/// Tensor names of one post-norm encoder layer, below the layer's own key. Node scopes follow them.
struct EncoderLayerKeys {
  std::string_view list;  ///< of all layers, below the base model: "encoder.layer"
  std::string_view query, key, value;
  std::string_view attention_output, attention_norm;
  std::string_view intermediate;
  std::string_view activation_scope;  ///< has no tensor
  std::string_view output, output_norm;
};

/// BERT's names, which most of its relatives kept.
inline constexpr EncoderLayerKeys kBertLayerKeys{
    .list = "encoder.layer",
    .query = "attention.self.query",
    .key = "attention.self.key",
    .value = "attention.self.value",
    .attention_output = "attention.output.dense",
    .attention_norm = "attention.output.LayerNorm",
    .intermediate = "intermediate.dense",
    .activation_scope = "intermediate/intermediate_act_fn",
    .output = "output.dense",
    .output_norm = "output.LayerNorm"};

/// linear(x) with the tensors `<key>.<name>.*`, in a scope of that name.
Value project(GraphBuilder& g,
              const Value& x,
              std::string_view key,
              std::string_view name,
              std::int64_t in,
              std::int64_t out);

/// `project`, or what a class has in its place.
using Projection = std::function<Value(GraphBuilder& g,
                                       const Value& x,
                                       std::string_view key,
                                       std::string_view name,
                                       std::int64_t in,
                                       std::int64_t out)>;

/// Where a layer normalizes: behind both residual sums as BERT, or what goes into attention and
/// feed-forward (attention_norm and output_norm then name those norms).
enum class NormOrder : std::uint8_t { kAfter, kBefore };

/// What all layers of an encoder have in common.
struct EncoderLayerSpec {
  EncoderLayerKeys keys = kBertLayerKeys;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_attention_heads = 0;
  double layer_norm_eps = 1e-12;
  Activation activation = nullptr;
  NormOrder norm_order = NormOrder::kAfter;
  Projection project = onnxferry::project;
  ScaleOn scale_on = ScaleOn::kScores;
};

/// A layer's input → its attention's result before the output projection, both [B, S, hidden_size].
using LayerAttention = std::function<Value(const Value& x)>;

/// One layer, as in the first transformers: norm(x + project(attention(x))), then
/// norm(y + project(activation(project(y)))); or x + project(attention(norm(x))) and the same for
/// the second half. `key` is the layer's checkpoint key ("bert.encoder.layer.0"); the caller opens
/// its scope.
Value encoder_layer(GraphBuilder& g,
                    const EncoderLayerSpec& layer,
                    const Value& x,
                    const std::string& key,
                    const LayerAttention& attention);

/// The plain attention of such a layer. `mask` is additive and may carry a position bias.
Value plain_attention(GraphBuilder& g,
                      const EncoderLayerSpec& layer,
                      const Value& x,
                      const std::string& key,
                      const Value& mask);

/// What of a rotary attention turns with the positions.
enum class Rotated : std::uint8_t { kQueriesAndKeys, kValuesToo };

/// The same with rotary positions.
Value rotary_attention(GraphBuilder& g,
                       const EncoderLayerSpec& layer,
                       const Value& x,
                       const std::string& key,
                       const Value& mask,
                       const RotaryTables& tables,
                       Rotated rotated = Rotated::kQueriesAndKeys);

}  // namespace onnxferry
