// SqueezeBERT (Iandola et al. 2020): BERT whose linear layers are convolutions of width 1, most of
// them in groups.
//
// Peculiar: the layers' norms have epsilon 1e-12 whatever layer_norm_eps says; the base model is
// called transformer. A convolution without groups is exported as the linear layer that it is.
// Source: transformers/models/squeezebert/modeling_squeezebert.py.

#include <map>

#include <fmt/format.h>

#include "pipeline/architectures/bert_like.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr EncoderLayerKeys kLayerKeys{.list = "encoder.layers",
                                      .query = "attention.query",
                                      .key = "attention.key",
                                      .value = "attention.value",
                                      .attention_output = "post_attention.conv1d",
                                      .attention_norm = "post_attention.layernorm",
                                      .intermediate = "intermediate.conv1d",
                                      .activation_scope = "intermediate/act",
                                      .output = "output.conv1d",
                                      .output_norm = "output.layernorm"};

using Groups = std::map<std::string_view, std::int64_t>;

Groups read_groups(const ModelConfig& config) {
  return {{kLayerKeys.query, config.dimension("q_groups", 4)},
          {kLayerKeys.key, config.dimension("k_groups", 4)},
          {kLayerKeys.value, config.dimension("v_groups", 4)},
          {kLayerKeys.attention_output, config.dimension("post_attention_groups", 1)},
          {kLayerKeys.intermediate, config.dimension("intermediate_groups", 4)},
          {kLayerKeys.output, config.dimension("output_groups", 4)}};
}

// x [B, S, in] → [B, S, out] with the weight [out, in / groups, 1] of a convolution
Value convolve(GraphBuilder& g,
               const Value& x,
               const std::string& key,
               const ConvAttributes& attributes,
               std::int64_t in,
               std::int64_t out) {
  if (in % attributes.groups != 0 || out % attributes.groups != 0) {
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("config.json gives {} {} groups, which must divide its sizes {} and {}",
                            key,
                            attributes.groups,
                            in,
                            out),
                key);
  }
  const Value bias = g.weight(key + ".bias", {out});
  if (attributes.groups == 1) {
    const TensorInfo& tensor = g.tensor(key + ".weight", {out, in, 1});
    const Recipe transposed = view(tensor, 0, {in, out}, {1, in});
    const Value weight = g.initializer(key + ".weight_t", cast(transposed, Dtype::kFloat32));
    return g.Add(g.MatMul(x, weight), bias);
  }
  const Value weight = g.weight(key + ".weight", {out, in / attributes.groups, 1});
  const Value y = g.Conv(g.Transpose(x, {0, 2, 1}), weight, &bias, attributes);
  return g.Transpose(y, {0, 2, 1});
}

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value x = bert_embeddings(g, config, inputs, {.positions = Positions::kAbsolute});
  const Value mask = padding_mask(g, inputs.attention_mask);
  EncoderLayerSpec layer = config.layer();
  layer.keys = kLayerKeys;
  layer.layer_norm_eps = 1e-12;
  layer.project = [groups = read_groups(config.source)](GraphBuilder& builder,
                                                        const Value& input,
                                                        std::string_view key,
                                                        std::string_view name,
                                                        std::int64_t in,
                                                        std::int64_t out) {
    const auto inner = builder.scope(module_path(name));
    const ConvAttributes attributes{.groups = groups.at(name)};
    return convolve(builder, input, fmt::format("{}.{}", key, name), attributes, in, out);
  };
  return bert_layers(g, config, layer, x, mask);
}

std::vector<BuiltGraph> build_squeezebert(const BuildContext& context) {
  const BertConfig config(context, "transformer");
  if (config.source.dimension("embedding_size", 768) != config.hidden_size) {
    config.source.refuse("embedding_size", "it must be hidden_size");
  }
  return build_text_encoder(
      context, with_bert_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
        return encode(g, config, inputs);
      }));
}

}  // namespace

extern const Architecture kSqueezeBert;
const Architecture kSqueezeBert{.model_type = "squeezebert",
                                .tasks = kTextEncoderTasks,
                                .ignored_tensors = kBertIgnoredTensors,
                                .build = build_squeezebert};

}  // namespace onnxferry
