// XLM-RoBERTa-XL (Goyal et al. 2021) and RoBERTa-PreLayerNorm (Ott et al. 2019): RoBERTa with the
// norms moved before attention and feed-forward, and one behind the last layer.
//
// Peculiar: they differ in the norms' names, and XL has no norm behind the embeddings. Source:
// transformers/models/{xlm_roberta_xl,roberta_prelayernorm}/modeling_*.py.

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

constexpr BertDefaults kXlDefaults{.vocab_size = 250880,
                                   .hidden_size = 2560,
                                   .num_hidden_layers = 36,
                                   .num_attention_heads = 32,
                                   .intermediate_size = 10240,
                                   .max_position_embeddings = 514,
                                   .type_vocab_size = 1,
                                   .layer_norm_eps = 1e-5};

struct Norms {
  std::string_view attention, output;  // below the layer
  std::string_view last;               // below the base model
  bool has_embedding_norm;
};
constexpr Norms kXlNorms{"attention.self_attn_layer_norm", "LayerNorm", "encoder.LayerNorm", false};
constexpr Norms kPreLayerNorms{"attention.LayerNorm", "intermediate.LayerNorm", "LayerNorm", true};

Value encode(GraphBuilder& g,
             const BertConfig& config,
             const Norms& norms,
             const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value x = bert_embeddings(g,
                                  config,
                                  inputs,
                                  {.positions = Positions::kFromIds,
                                   .padding_id = config.source.integer("pad_token_id", 1),
                                   .has_norm = norms.has_embedding_norm});
  const Value mask = padding_mask(g, inputs.attention_mask);
  EncoderLayerSpec layer = config.layer();
  layer.norm_order = NormOrder::kBefore;
  layer.keys.attention_norm = norms.attention;
  layer.keys.output_norm = norms.output;
  const Value last = bert_layers(g, config, layer, x, mask);
  return layer_norm(
      g, last, config.prefix + std::string(norms.last), config.hidden_size, config.layer_norm_eps);
}

std::vector<BuiltGraph> build(const BuildContext& context,
                              const BertConfig& config,
                              const Norms& norms) {
  return build_text_encoder(
      context, with_roberta_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
        return encode(g, config, norms, inputs);
      }));
}

std::vector<BuiltGraph> build_xl(const BuildContext& context) {
  return build(context, BertConfig(context, "roberta", kXlDefaults), kXlNorms);
}
std::vector<BuiltGraph> build_prelayernorm(const BuildContext& context) {
  const BertConfig config(context, "roberta_prelayernorm", {.vocab_size = 50265});
  return build(context, config, kPreLayerNorms);
}

}  // namespace

extern const Architecture kRobertaPreLayerNorm, kXlmRobertaXl;
const Architecture kRobertaPreLayerNorm{.model_type = "roberta-prelayernorm",
                                        .tasks = kTextEncoderTasks,
                                        .ignored_tensors = kRobertaIgnoredTensors,
                                        .build = build_prelayernorm};
const Architecture kXlmRobertaXl{.model_type = "xlm-roberta-xl",
                                 .tasks = kTextEncoderTasks,
                                 .ignored_tensors = kRobertaIgnoredTensors,
                                 .build = build_xl};

}  // namespace onnxferry
