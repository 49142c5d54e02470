// DistilBERT (Sanh et al. 2019): BERT without token types and pooler; queries are scaled before the
// product; LayerNorm epsilon is 1e-12 whatever the config says (it has no key for it).
//
// Peculiar: n_heads, dim, hidden_dim and n_layers instead of the usual key names; the masked-LM
// projector is tied. Source: transformers/models/distilbert/modeling_distilbert.py.

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

constexpr BertDefaults kDefaults{.num_hidden_layers = 6};
constexpr BertKeyNames kKeyNames{.hidden_size = "dim",
                                 .num_hidden_layers = "n_layers",
                                 .num_attention_heads = "n_heads",
                                 .intermediate_size = "hidden_dim",
                                 .activation = "activation"};
constexpr EncoderLayerKeys kLayerKeys{.list = "transformer.layer",
                                      .query = "attention.q_lin",
                                      .key = "attention.k_lin",
                                      .value = "attention.v_lin",
                                      .attention_output = "attention.out_lin",
                                      .attention_norm = "sa_layer_norm",
                                      .intermediate = "ffn.lin1",
                                      .activation_scope = "ffn",
                                      .output = "ffn.lin2",
                                      .output_norm = "output_layer_norm"};
constexpr MaskedLmKeys kMaskedLmKeys{.dense = "vocab_transform",
                                     .norm = "vocab_layer_norm",
                                     .transform_scope = "vocab_transform",
                                     .decoder = "vocab_projector",
                                     .bias = "vocab_projector.bias",
                                     .decoder_scope = "vocab_projector"};

BertConfig read_config(const BuildContext& context) {
  BertConfig config(context, "distilbert", kDefaults, kKeyNames);
  config.layer_norm_eps = 1e-12;
  return config;
}

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value x = bert_embeddings(g, config, inputs, {.has_token_types = false});
  const Value mask = padding_mask(g, inputs.attention_mask);
  EncoderLayerSpec layer = config.layer();
  layer.keys = kLayerKeys;
  layer.scale_on = ScaleOn::kQuery;
  return bert_layers(g, config, layer, x, mask);
}

std::vector<BuiltGraph> build_distilbert(const BuildContext& context) {
  const BertConfig config = read_config(context);
  const Pooling pooling =
      first_token_pooling("pre_classifier", "pre_classifier", config.hidden_size, relu_activation);
  TextEncoder encoder{
      .hidden_size = config.hidden_size,
      .encode = [&](GraphBuilder& g, const EncoderInputs& in) { return encode(g, config, in); },
      .sequence = pooling,
      .choice = pooling};
  set_masked_lm(encoder, config, kMaskedLmKeys, config.activation);
  return build_text_encoder(context, encoder);
}

// Heads that the task does not use, and the tied copy of the masked-LM projector.
constexpr std::string_view kIgnoredTensors[] = {"vocab_*",
                                                "classifier.*",
                                                "pre_classifier.*",
                                                "qa_outputs.*",
                                                "distilbert.embeddings.position_ids",
                                                "embeddings.position_ids"};

}  // namespace

extern const Architecture kDistilBert;
const Architecture kDistilBert{.model_type = "distilbert",
                               .tasks = kTextEncoderTasks,
                               .ignored_tensors = kIgnoredTensors,
                               .build = build_distilbert};

}  // namespace onnxferry
