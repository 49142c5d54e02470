// BERT (Devlin et al. 2018): post-norm encoder, learned absolute positions, token types, tanh
// pooler.
//
// Peculiar: checkpoints from TensorFlow call LayerNorm weights gamma and beta; the base model may
// be saved without the "bert." prefix; the masked-LM decoder shares the word embeddings unless
// tie_word_embeddings is false, and its bias is stored as cls.predictions.bias. Source: BertModel
// and the BertFor… classes in transformers/models/bert/modeling_bert.py.

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value x = bert_embeddings(g, config, inputs, {.positions = Positions::kAbsolute});
  const Value mask = padding_mask(g, inputs.attention_mask);
  return bert_layers(g, config, config.layer(), x, mask);
}

std::vector<BuiltGraph> build_bert(const BuildContext& context) {
  const BertConfig config(context, "bert");
  return build_text_encoder(
      context, with_bert_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
        return encode(g, config, inputs);
      }));
}

}  // namespace

extern const Architecture kBert;
const Architecture kBert{.model_type = "bert",
                         .tasks = kTextEncoderTasks,
                         .ignored_tensors = kBertIgnoredTensors,
                         .build = build_bert};

}  // namespace onnxferry
