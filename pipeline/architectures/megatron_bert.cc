// Megatron-BERT (Shoeybi et al. 2019): BERT with the norms moved before attention and feed-forward,
// one at the end of the encoder, and none behind the embeddings. Source:
// transformers/models/megatron_bert/modeling_megatron_bert.py.

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

constexpr BertDefaults kDefaults{.vocab_size = 29056,
                                 .hidden_size = 1024,
                                 .num_hidden_layers = 24,
                                 .num_attention_heads = 16,
                                 .intermediate_size = 4096};

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value x =
      bert_embeddings(g, config, inputs, {.positions = Positions::kAbsolute, .has_norm = false});
  const Value mask = padding_mask(g, inputs.attention_mask);
  EncoderLayerSpec layer = config.layer();
  layer.norm_order = NormOrder::kBefore;
  layer.keys.attention_norm = "attention.ln";
  layer.keys.output_norm = "ln";
  const Value last = bert_layers(g, config, layer, x, mask);
  return layer_norm(
      g, last, config.prefix + "encoder.ln", config.hidden_size, config.layer_norm_eps);
}

std::vector<BuiltGraph> build_megatron_bert(const BuildContext& context) {
  const BertConfig config(context, "bert", kDefaults);
  return build_text_encoder(
      context, with_bert_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
        return encode(g, config, inputs);
      }));
}

}  // namespace

extern const Architecture kMegatronBert;
const Architecture kMegatronBert{.model_type = "megatron-bert",
                                 .tasks = kTextEncoderTasks,
                                 .ignored_tensors = kBertIgnoredTensors,
                                 .build = build_megatron_bert};

}  // namespace onnxferry
