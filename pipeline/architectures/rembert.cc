// RemBERT (Chung et al. 2020): BERT whose word embeddings are smaller at the input than at the
// output; encoder.embedding_hidden_mapping_in widens them.
//
// Peculiar: the masked-LM head has a table of its own, [vocab, output_embedding_size], never tied.
// Source: transformers/models/rembert/modeling_rembert.py.

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

constexpr BertDefaults kDefaults{.vocab_size = 250300,
                                 .hidden_size = 1152,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 18,
                                 .intermediate_size = 4608};
constexpr MaskedLmKeys kMaskedLmKeys{.dense = "cls.predictions.dense",
                                     .norm = "cls.predictions.LayerNorm",
                                     .transform_scope = "cls/predictions",
                                     .decoder = "cls.predictions.decoder",
                                     .bias = "cls.predictions.decoder.bias",
                                     .decoder_scope = "cls/predictions/decoder"};

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value embedded = bert_embeddings(g, config, inputs, {.positions = Positions::kAbsolute});
  const Value mask = padding_mask(g, inputs.attention_mask);
  const Value x = [&] {
    const auto inner = g.scope("encoder");
    return project(g,
                   embedded,
                   config.prefix + "encoder",
                   "embedding_hidden_mapping_in",
                   config.embedding_size,
                   config.hidden_size);
  }();
  return bert_layers(g, config, config.layer(), x, mask);
}

std::vector<BuiltGraph> build_rembert(const BuildContext& context) {
  BertConfig config(context, "rembert", kDefaults);
  config.embedding_size = config.source.dimension("input_embedding_size", 256);
  config.prediction_size = config.source.dimension("output_embedding_size", 1664);
  config.ties_word_embeddings = false;
  TextEncoder encoder = with_bert_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
    return encode(g, config, inputs);
  });
  set_masked_lm(encoder, config, kMaskedLmKeys, config.activation);
  return build_text_encoder(context, encoder);
}

}  // namespace

extern const Architecture kRemBert;
const Architecture kRemBert{.model_type = "rembert",
                            .tasks = kTextEncoderTasks,
                            .ignored_tensors = kBertIgnoredTensors,
                            .build = build_rembert};

}  // namespace onnxferry
