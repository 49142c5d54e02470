// ALBERT (Lan et al. 2019): BERT whose layers share their weights. num_hidden_groups groups of
// inner_group_num layers are run num_hidden_layers times in turn; word embeddings are narrower than
// the hidden state.
//
// Peculiar: the pooler is a plain linear layer with tanh behind it; the masked-LM head works at
// embedding_size. Shared weights are one initializer each. Source:
// transformers/models/albert/modeling_albert.py.

#include <fmt/format.h>

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

constexpr BertDefaults kDefaults{.vocab_size = 30000,
                                 .hidden_size = 4096,
                                 .num_attention_heads = 64,
                                 .intermediate_size = 16384,
                                 .hidden_act = "gelu_new"};
constexpr EncoderLayerKeys kLayerKeys{.query = "attention.query",
                                      .key = "attention.key",
                                      .value = "attention.value",
                                      .attention_output = "attention.dense",
                                      .attention_norm = "attention.LayerNorm",
                                      .intermediate = "ffn",
                                      .activation_scope = "activation",
                                      .output = "ffn_output",
                                      .output_norm = "full_layer_layer_norm"};
constexpr MaskedLmKeys kMaskedLmKeys{.dense = "predictions.dense",
                                     .norm = "predictions.LayerNorm",
                                     .transform_scope = "predictions",
                                     .decoder = "predictions.decoder",
                                     .bias = "predictions.bias",
                                     .decoder_scope = "predictions"};

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const std::int64_t groups = config.source.dimension("num_hidden_groups", 1);
  const std::int64_t layers_per_group = config.source.dimension("inner_group_num", 1);
  const auto scope = g.scope(config.scope);
  Value x = bert_embeddings(g, config, inputs, {.positions = Positions::kAbsolute});
  const Value mask = padding_mask(g, inputs.attention_mask);
  const auto inner = g.scope("encoder");
  x = project(g,
              x,
              config.prefix + "encoder",
              "embedding_hidden_mapping_in",
              config.embedding_size,
              config.hidden_size);
  EncoderLayerSpec layer = config.layer();
  layer.keys = kLayerKeys;
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    // In floating point, as transformers does it.
    const auto group = static_cast<std::int64_t>(
        static_cast<double>(i) /
        (static_cast<double>(config.num_hidden_layers) / static_cast<double>(groups)));
    for (std::int64_t k = 0; k < layers_per_group; ++k) {
      const std::string name = fmt::format("albert_layer_groups.{}.albert_layers.{}", group, k);
      const std::string key = fmt::format("{}encoder.{}", config.prefix, name);
      const auto layer_scope = g.scope(module_path(name));
      x = encoder_layer(g, layer, x, key, [&](const Value& input) {
        return plain_attention(g, layer, input, key, mask);
      });
    }
  }
  return x;
}

std::vector<BuiltGraph> build_albert(const BuildContext& context) {
  BertConfig config(context, "albert", kDefaults);
  config.embedding_size = config.source.dimension("embedding_size", 128);
  config.prediction_size = config.embedding_size;
  const Pooling pooling = first_token_pooling(
      config.prefix + "pooler", config.scope + "/pooler", config.hidden_size, tanh_activation);
  TextEncoder encoder{
      .hidden_size = config.hidden_size,
      .has_token_types = true,
      .encode = [&](GraphBuilder& g, const EncoderInputs& in) { return encode(g, config, in); },
      .sequence = pooling,
      .choice = pooling};
  set_masked_lm(encoder, config, kMaskedLmKeys, config.activation);
  return build_text_encoder(context, encoder);
}

// Heads that the task does not use, buffers of old versions, and the tied copies of the masked-LM
// decoder.
constexpr std::string_view kIgnoredTensors[] = {"albert.pooler.*",
                                                "pooler.*",
                                                "predictions.*",
                                                "sop_classifier.*",
                                                "classifier.*",
                                                "qa_outputs.*",
                                                "*embeddings.position_ids"};

}  // namespace

extern const Architecture kAlbert;
const Architecture kAlbert{.model_type = "albert",
                           .tasks = kTextEncoderTasks,
                           .ignored_tensors = kIgnoredTensors,
                           .build = build_albert};

}  // namespace onnxferry
