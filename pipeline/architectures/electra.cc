// ELECTRA (Clark et al. 2020): BERT's encoder on word embeddings that may be narrower than the
// hidden state (embeddings_project widens them).
//
// Peculiar: the generator's masked-LM head works at embedding_size and always with gelu; the
// sentence classifier has its own dense layer with gelu; multiple-choice pools by the summary_…
// keys. A discriminator (ElectraForPreTraining) has no task of its own: only its features can be
// exported. Source: transformers/models/electra/modeling_electra.py.

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

constexpr BertDefaults kDefaults{
    .hidden_size = 256, .num_attention_heads = 4, .intermediate_size = 1024};

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value embedded = bert_embeddings(g, config, inputs, {.positions = Positions::kAbsolute});
  const Value x = project_embeddings(g, config, embedded);
  const Value mask = padding_mask(g, inputs.attention_mask);
  return bert_layers(g, config, config.layer(), x, mask);
}

std::vector<BuiltGraph> build_electra(const BuildContext& context) {
  BertConfig config(context, "electra", kDefaults);
  config.embedding_size = config.source.dimension("embedding_size", 128);
  config.prediction_size = config.embedding_size;
  TextEncoder encoder{
      .hidden_size = config.hidden_size,
      .has_token_types = true,
      .encode = [&](GraphBuilder& g, const EncoderInputs& in) { return encode(g, config, in); },
      .sequence = classification_head(config.hidden_size, gelu)};
  if (context.task == "multiple-choice") {
    encoder.choice =
        sequence_summary(config.source,
                         config.hidden_size,
                         {.type = "first", .use_projection = true, .activation = "gelu"});
  }
  set_masked_lm(encoder, config, kElectraMaskedLmKeys, gelu);
  return build_text_encoder(context, encoder);
}

}  // namespace

extern const Architecture kElectra;
const Architecture kElectra{.model_type = "electra",
                            .tasks = kTextEncoderTasks,
                            .ignored_tensors = kElectraIgnoredTensors,
                            .build = build_electra};

}  // namespace onnxferry
