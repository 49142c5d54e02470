// MPT (MosaicML 2023): ALiBi in place of positions, one matrix for queries, keys and values, no
// biases anywhere, tied head.
//
// Peculiar: ALiBi counts back from the last key, padding included, with slopes of its own for head
// counts that are no power of two. transformers obeys only clip_qkv and softmax_scale of
// attn_config, and always makes the feed-forward block four times as wide; what it would silently
// do otherwise than the config says is refused here. Checkpoints name their original code in
// auto_map; transformers' own class needs none of it. Source:
// transformers/models/mpt/modeling_mpt.py.

#include <algorithm>
#include <bit>
#include <cmath>

#include "pipeline/architectures/decoder.h"
#include "pipeline/graph/alibi.h"

namespace onnxferry {
namespace {

// build_mpt_alibi_tensor: 2^(-8 i / n) for the next power of two n, every second one first.
std::vector<float> mpt_slopes(std::int64_t num_heads) {
  const auto whole =
      static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(num_heads)));
  const auto slope = [&](std::int64_t i) {
    const float exponent = static_cast<float>(i) * (8.0F / static_cast<float>(whole));
    return 1.0F / static_cast<float>(std::exp2(static_cast<double>(exponent)));
  };
  std::vector<float> slopes;
  if (whole == num_heads) {
    for (std::int64_t i = 1; i <= whole; ++i) {
      slopes.push_back(slope(i));
    }
    return slopes;
  }
  for (const std::int64_t first : {2, 1}) {
    for (std::int64_t i = first; i <= whole; i += 2) {
      slopes.push_back(slope(i));
    }
  }
  slopes.resize(static_cast<std::size_t>(num_heads));
  return slopes;
}

/// Positions 1 - T … 0.
Value mpt_alibi(GraphBuilder& g, DecoderInputs& inputs, std::int64_t num_heads) {
  const Value one = g.int_scalar(1);
  const Value first = g.Sub(one, g.Squeeze(inputs.total_length));
  return alibi(g, g.Unsqueeze(g.Range(first, one, one), {0}), mpt_slopes(num_heads));
}

void refuse_unless(const ModelConfig& config, std::string_view key, bool expected) {
  if (config.boolean(key, expected) != expected) {
    config.refuse(key, "transformers' class ignores it, the original code does not");
  }
}

void read_attention(const ModelConfig& config, DecoderSpec& spec) {
  spec.attention.num_heads = aliased_dimension(config, "n_heads", "num_attention_heads", 16);
  set_plain_heads(config, spec);
  spec.attention.form = QkvForm::kStacked;
  spec.attention.qkv_name = "Wqkv";
  spec.attention.output_name = "out_proj";
  const auto attn_config = config.find_object("attn_config");
  if (!attn_config) {
    return;
  }
  spec.attention.clip = attn_config->number("clip_qkv", 0.0);
  spec.attention.scale = attn_config->number("softmax_scale", spec.attention.scale);
  attn_config->disregard("attn_impl");
  attn_config->disregard("attn_pdrop");
  attn_config->disregard("model_type");
  refuse_unless(*attn_config, "alibi", true);
  refuse_unless(*attn_config, "qk_ln", false);
  refuse_unless(*attn_config, "prefix_lm", false);
  refuse_unless(*attn_config, "attn_uses_sequence_id", false);
  if (attn_config->text("attn_type", "multihead_attention") != "multihead_attention") {
    attn_config->refuse("attn_type", "only multihead_attention is implemented in transformers");
  }
  if (attn_config->integer("alibi_bias_max", 8) != 8) {
    attn_config->refuse("alibi_bias_max", "transformers' class computes with 8");
  }
}

std::vector<BuiltGraph> build_mpt(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec;
  spec.names = {.base = "transformer",
                .embedding = "wte",
                .layers = "blocks",
                .final_norm = "norm_f",
                .token_classifier = "classifier",
                .attention = "attn",
                .mlp = "ffn",
                .pre_attention_norm = "norm_1",
                .pre_mlp_norm = "norm_2"};
  spec.vocab_size = config.dimension("vocab_size", 50368);
  spec.hidden_size = aliased_dimension(config, "d_model", "hidden_size", 2048);
  spec.norm = {NormKind::kLayerWithoutBias, config.number("layer_norm_epsilon", 1e-5)};
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  spec.position_input = PositionInput::kNo;
  spec.layers = plain_layers(aliased_dimension(config, "n_layers", "num_hidden_layers", 24));
  refuse_unless(config, "no_bias", true);
  if (!config.text("norm_type", "low_precision_layernorm").ends_with("layernorm")) {
    config.refuse("norm_type", "transformers' class has LayerNorm only");
  }
  for (const auto* const key : {"embedding_fraction",
                                "expansion_ratio",
                                "init_config",
                                "init_device",
                                "learned_pos_emb",
                                "verbose"}) {
    config.disregard(key);
  }
  read_attention(config, spec);
  spec.mlp = {.form = FeedForwardSpec::Form::kPlain,
              .hidden_size = spec.hidden_size,
              .intermediate_size = 4 * spec.hidden_size,
              .activation = gelu};
  spec.attention_bias = [heads = spec.attention.num_heads](GraphBuilder& g, DecoderInputs& inputs) {
    return mpt_alibi(g, inputs, heads);
  };
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kMpt;
const Architecture kMpt{.model_type = "mpt",
                        .tasks = kAllDecoderTasks,
                        .ignored_tensors = kDecoderIgnoredTensors,
                        .build = build_mpt};

}  // namespace onnxferry
