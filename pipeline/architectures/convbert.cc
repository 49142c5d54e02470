// ConvBERT (Jiang et al. 2020): BERT in which half of each attention block is a convolution whose
// kernel depends on the token: softmax over conv_kernel_size weights per head and position.
//
// Peculiar: only num_attention_heads / head_ratio heads, each half as wide; the feed-forward layers
// may be grouped (weights [groups, in, out]); the masked-LM head is ELECTRA's. Source:
// transformers/models/convbert/modeling_convbert.py.

#include <algorithm>

#include <fmt/format.h>

#include "pipeline/architectures/bert_like.h"
#include "pipeline/graph/relative_position.h"

namespace onnxferry {
namespace {

struct ConvBertConfig : BertConfig {
  std::int64_t heads, head_dim, kernel, groups;

  explicit ConvBertConfig(const BuildContext& context)
      : BertConfig(context, "convbert"),
        heads(std::max<std::int64_t>(1, num_attention_heads / source.dimension("head_ratio", 2))),
        head_dim(hidden_size / heads / 2),
        kernel(source.dimension("conv_kernel_size", 9)),
        groups(source.dimension("num_groups", 1)) {
    embedding_size = source.dimension("embedding_size", 768);
    prediction_size = embedding_size;
    if (2 * heads * head_dim != hidden_size) {
      source.refuse("head_ratio", "the heads must divide half of hidden_size");
    }
    if (hidden_size % groups != 0 || intermediate_size % groups != 0) {
      source.refuse("num_groups", "it must divide hidden_size and intermediate_size");
    }
    if (kernel % 2 == 0) {
      source.refuse("conv_kernel_size", "an even kernel changes the sequence length");
    }
  }
  [[nodiscard]] std::int64_t width() const { return heads * head_dim; }
};

// x [B, S, H] → [B, S, width]: per channel over the neighbours, then across channels
Value separable_convolution(GraphBuilder& g,
                            const ConvBertConfig& config,
                            const Value& x,
                            const std::string& key) {
  const auto scope = g.scope("key_conv_attn_layer");
  const std::int64_t size = config.hidden_size;
  const Value depthwise = g.weight(key + ".depthwise.weight", {size, 1, config.kernel});
  const Value pointwise = g.weight(key + ".pointwise.weight", {config.width(), size, 1});
  const Value spread =
      g.Conv(g.Transpose(x, {0, 2, 1}),
             depthwise,
             nullptr,
             {.kernel = config.kernel, .padding = config.kernel / 2, .groups = size});
  const Value mixed = g.Conv(spread, pointwise, nullptr, {});
  return g.Transpose(g.Add(mixed, g.weight(key + ".bias", {config.width(), 1})), {0, 2, 1});
}

// Σₖ x[s + k - kernel / 2] · weights[s, k] per head: x [B, S, width], weights [B, S, heads, 1,
// kernel]. `windows` [S, kernel] are the positions in the padded sequence.
Value convolve(GraphBuilder& g,
               const ConvBertConfig& config,
               const Value& x,
               const Value& weights,
               const Value& windows) {
  const std::int64_t padding = config.kernel / 2;
  const Value padded = g.Pad(x, g.ints({0, padding, 0, 0, padding, 0}));
  const Value parts =
      g.Reshape(g.Gather(padded, windows, 1), g.ints({0, 0, 0, config.heads, config.head_dim}));
  const Value sums = g.MatMul(weights, g.Transpose(parts, {0, 1, 3, 2, 4}));
  return g.Reshape(sums, g.ints({0, 0, config.width()}));
}

Value attention(GraphBuilder& g,
                const ConvBertConfig& config,
                const Value& x,
                const std::string& layer,
                const Value& mask,
                const Value& windows) {
  const auto scope = g.scope("attention/self");
  const std::string key = layer + ".attention.self";
  const std::int64_t width = config.width();
  const auto projected = [&](std::string_view name) {
    return project(g, x, key, name, config.hidden_size, width);
  };
  const Value query = projected("query");
  const Value context = encoder_attention(g,
                                          query,
                                          projected("key"),
                                          projected("value"),
                                          mask,
                                          {.num_heads = config.heads,
                                           .num_key_value_heads = config.heads,
                                           .head_dim = config.head_dim});
  const Value local =
      g.Mul(separable_convolution(g, config, x, key + ".key_conv_attn_layer"), query);
  const Value logits =
      project(g, local, key, "conv_kernel_layer", width, config.heads * config.kernel);
  const Value weights =
      g.Softmax(g.Reshape(logits, g.ints({0, 0, config.heads, 1, config.kernel})));
  return g.Concat({context, convolve(g, config, projected("conv_out_layer"), weights, windows)},
                  -1);
}

// x [B, S, in] → [B, S, out] by blocks [groups, in / groups, out / groups]
Value grouped_linear(GraphBuilder& g,
                     const Value& x,
                     const std::string& key,
                     std::int64_t groups,
                     std::int64_t in,
                     std::int64_t out) {
  const Value blocks = split_heads(g, x, groups, in / groups);  // [B, groups, S, in / groups]
  const Value weight = g.weight(key + ".weight", {groups, in / groups, out / groups});
  const Value y = g.Transpose(g.MatMul(blocks, weight), {0, 2, 1, 3});
  return g.Add(g.Reshape(y, g.ints({0, 0, out})), g.weight(key + ".bias", {out}));
}

EncoderLayerSpec layer_spec(const ConvBertConfig& config) {
  EncoderLayerSpec layer = config.layer();
  if (config.groups > 1) {
    layer.project = [groups = config.groups, keys = layer.keys](GraphBuilder& g,
                                                                const Value& x,
                                                                std::string_view key,
                                                                std::string_view name,
                                                                std::int64_t in,
                                                                std::int64_t out) {
      if (name != keys.intermediate && name != keys.output) {
        return project(g, x, key, name, in, out);
      }
      const auto scope = g.scope(module_path(name));
      return grouped_linear(g, x, fmt::format("{}.{}", key, name), groups, in, out);
    };
  }
  return layer;
}

Value encode(GraphBuilder& g, const ConvBertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value embedded = bert_embeddings(g, config, inputs, {.positions = Positions::kAbsolute});
  const Value x = project_embeddings(g, config, embedded);
  const Value mask = padding_mask(g, inputs.attention_mask);
  const Value offsets = g.Range(g.int_scalar(0), g.int_scalar(config.kernel), g.int_scalar(1));
  const Value windows = g.Add(position_ranges(g, inputs.input_ids).rows, offsets);
  const EncoderLayerSpec layer = layer_spec(config);
  return bert_layers(g, config, layer, x, [&](const Value& input, const std::string& key) {
    return attention(g, config, input, key, mask, windows);
  });
}

std::vector<BuiltGraph> build_convbert(const BuildContext& context) {
  const ConvBertConfig config(context);
  TextEncoder encoder{
      .hidden_size = config.hidden_size,
      .has_token_types = true,
      .encode = [&](GraphBuilder& g, const EncoderInputs& in) { return encode(g, config, in); },
      .sequence = classification_head(config.hidden_size, config.activation)};
  if (context.task == "multiple-choice") {
    encoder.choice = sequence_summary(config.source, config.hidden_size, {});
  }
  set_masked_lm(encoder, config, kElectraMaskedLmKeys, gelu);
  return build_text_encoder(context, encoder);
}

}  // namespace

extern const Architecture kConvBert;
const Architecture kConvBert{.model_type = "convbert",
                             .tasks = kTextEncoderTasks,
                             .ignored_tensors = kElectraIgnoredTensors,
                             .build = build_convbert,
                             .tasks_that_see_padding = kTextEncoderTasks};

}  // namespace onnxferry
