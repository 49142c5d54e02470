// ESM-2 and ESM-1b (Lin et al. 2022, Rives et al. 2020), language models of proteins: BERT's layers
// with the norms in front, one more norm behind them, rotary or absolute positions.
//
// Peculiar: with token_dropout the embeddings of mask tokens are zero and the others scaled up by
// their share, as it was in training; transformers 4.57 counts padding as real there (it does not
// hand the mask to the embeddings), so what stands beside a mask token changes with padding.
// hidden_act is not read: always gelu. The contact head is no task. ESMFold is refused. Source:
// transformers/models/esm/modeling_esm.py.

#include <optional>

#include "pipeline/architectures/bert_like.h"
#include "pipeline/graph/relative_position.h"

namespace onnxferry {
namespace {

constexpr double kTheta = 10000.0;
constexpr float kUnmaskedInTraining = 1.0F - 0.15F * 0.8F;
constexpr EncoderLayerKeys kLayerKeys = [] {
  EncoderLayerKeys keys = kBertLayerKeys;
  keys.attention_norm = "attention.LayerNorm";
  keys.output_norm = "LayerNorm";
  return keys;
}();

struct EsmConfig : BertConfig {
  bool is_rotary, normalizes_embeddings;
  std::int64_t padding_id;
  std::optional<std::int64_t> dropped_token;

  EsmConfig(const BuildContext& context, std::string_view positions)
      : BertConfig(context,
                   "esm",
                   {.max_position_embeddings = 1026, .position_embedding_type = positions}),
        is_rotary(positions == "rotary"),
        normalizes_embeddings(source.boolean("emb_layer_norm_before", false)),
        padding_id(source.integer("pad_token_id")) {
    activation = gelu;
    if (source.boolean("token_dropout", false)) {
      dropped_token = source.find_integer("mask_token_id");
      if (!dropped_token) {
        source.refuse("mask_token_id", "token_dropout needs it");
      }
    }
    if (source.boolean("is_folding_model", false)) {
      source.refuse("is_folding_model", "structure prediction is not implemented");
    }
  }
};

EsmConfig read_config(const BuildContext& context) {
  const bool is_rotary = context.config.text("position_embedding_type", "absolute") == "rotary";
  return {context, is_rotary ? "rotary" : "absolute"};
}

// Words where no mask token stands, times their expected share over their share in the row.
Value drop_masked(GraphBuilder& g, const Value& words, const Value& ids, std::int64_t dropped) {
  const auto scope = g.float32_scope("token_dropout");
  const Value kept = g.Cast(g.Not(g.Equal(ids, g.int_scalar(dropped))), Dtype::kFloat32);  // [B, S]
  const Value factor = g.Div(g.Mul(kept, g.float_scalar(kUnmaskedInTraining)), g.ReduceMean(kept));
  return g.Mul(words, g.Unsqueeze(factor, {2}));
}

Value embeddings(GraphBuilder& g, const EsmConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope("embeddings");
  BertEmbeddings parts{.positions = config.is_rotary ? Positions::kNone : Positions::kFromIds,
                       .padding_id = config.padding_id,
                       .has_token_types = false};
  if (config.dropped_token) {
    parts.scale_words = [&](GraphBuilder& builder, const Value& words) {
      return drop_masked(builder, words, inputs.input_ids, *config.dropped_token);
    };
  }
  const Value sum = embedding_sum(g, config, inputs, parts);
  const std::string norm = config.prefix + "embeddings.layer_norm";
  return config.normalizes_embeddings
             ? layer_norm(g, sum, norm, config.hidden_size, config.layer_norm_eps)
             : sum;
}

// cos and sin of the sequence's positions, [S, d]. The frequencies are a tensor of the checkpoint,
// in 16-bit checkpoints a rounded one.
RotaryTables tables(GraphBuilder& g, const EsmConfig& config, const Value& input_ids) {
  const auto scope = g.float32_scope("rotary_emb");
  const std::int64_t head_dim = config.hidden_size / config.num_attention_heads;
  const std::string key =
      config.prefix + "encoder.layer.0.attention.self.rotary_embeddings.inv_freq";
  const Value frequencies = g.has_tensor(key)
                                ? g.weight(key, {head_dim / 2})
                                : g.floats(unscaled_rope(kTheta, head_dim).frequencies);
  const Value positions = g.Cast(position_ranges(g, input_ids).rows, Dtype::kFloat32);
  const Value angles = g.Mul(positions, frequencies);
  const Value cos = g.Cos(angles);
  const Value sin = g.Sin(angles);
  return {.cos = g.Concat({cos, cos}, -1),
          .signed_sin = g.Concat({g.Neg(sin), sin}, -1),
          .rotary_dim = head_dim};
}

Value layers(GraphBuilder& g,
             const EsmConfig& config,
             const Value& x,
             const EncoderInputs& inputs) {
  const Value mask = padding_mask(g, inputs.attention_mask);
  EncoderLayerSpec layer = config.layer();
  layer.keys = kLayerKeys;
  layer.norm_order = NormOrder::kBefore;
  layer.scale_on = ScaleOn::kQuery;
  if (!config.is_rotary) {
    return bert_layers(g, config, layer, x, mask);
  }
  const RotaryTables rotary = tables(g, config, inputs.input_ids);
  return bert_layers(g, config, layer, x, [&](const Value& input, const std::string& key) {
    return rotary_attention(g, layer, input, key, mask, rotary);
  });
}

std::vector<BuiltGraph> build_esm(const BuildContext& context) {
  const EsmConfig config = read_config(context);
  return build_text_encoder(
      context, with_roberta_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
        const auto scope = g.scope(config.scope);
        const Value x = layers(g, config, embeddings(g, config, inputs), inputs);
        const auto inner = g.scope("encoder/emb_layer_norm_after");
        const std::string norm = config.prefix + "encoder.emb_layer_norm_after";
        return layer_norm(g, x, norm, config.hidden_size, config.layer_norm_eps);
      }));
}

constexpr std::string_view kTasks[] = {"feature-extraction",
                                       "fill-mask",
                                       "text-classification",
                                       "token-classification",
                                       "sentence-similarity"};
constexpr std::string_view kIgnoredTensors[] = {"*pooler.*",
                                                "*contact_head.*",
                                                "lm_head.*",
                                                "classifier.*",
                                                "*embeddings.position_ids",
                                                "*embeddings.position_embeddings.*",
                                                "*rotary_embeddings.inv_freq"};

}  // namespace

extern const Architecture kEsm;
const Architecture kEsm{.model_type = "esm",
                        .tasks = kTasks,
                        .ignored_tensors = kIgnoredTensors,
                        .build = build_esm,
                        .tasks_that_see_padding = kTasks};

}  // namespace onnxferry
