// GPT-NeoX-Japanese (ABEJA 2022): GPT-NeoX with one block after the other and no biases but one,
// added to the last layer's attention.
//
// Peculiar: rotary part and base are rotary_pct and rotary_emb_base; the head is tied unless the
// config says otherwise. Source:
// transformers/models/gpt_neox_japanese/modeling_gpt_neox_japanese.py.

#include <fmt/format.h>

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

void read_attention(const ModelConfig& config, DecoderSpec& spec) {
  SelfAttentionSpec& attention = spec.attention;
  attention.num_heads = config.dimension("num_attention_heads", 32);
  set_plain_heads(config, spec);
  attention.form = QkvForm::kGrouped;
  attention.qkv_name = "query_key_value";
  attention.output_name = "dense";
  const double part = config.number("rotary_pct", 1.0);
  const auto rotary_dim = static_cast<std::int64_t>(static_cast<double>(attention.head_dim) * part);
  spec.ropes = {read_rope(config, rotary_dim, 10000.0, "rotary_emb_base")};
  config.disregard("partial_rotary_factor");
  config.disregard("rope_theta");
  spec.attend =
      [attention, last = spec.layers.size() - 1](
          GraphBuilder& g, const Value& x, DecoderInputs& inputs, const SelfAttentionPlace& place) {
        const Value attended = self_attention(g, x, inputs, attention, place);
        if (place.layer != last) {
          return attended;
        }
        const std::string bias = fmt::format("{}.dense_bias", place.key);
        return g.Add(attended, g.weight(bias, {attention.hidden_size}));
      };
}

std::vector<BuiltGraph> build_gpt_neox_japanese(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec;
  spec.names = {.base = "gpt_neox_japanese",
                .embedding = "embed_in",
                .final_norm = "final_layer_norm",
                .head = "embed_out",
                .attention = "attention"};
  spec.vocab_size = config.dimension("vocab_size", 32000);
  spec.hidden_size = config.dimension("hidden_size", 2560);
  spec.norm = {NormKind::kLayer, config.number("layer_norm_eps", 1e-5)};
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  spec.layers = plain_layers(config.dimension("num_hidden_layers", 32));
  read_attention(config, spec);
  const double multiple = config.number("intermediate_multiple_size", 4);
  const auto size = static_cast<std::int64_t>(static_cast<double>(spec.hidden_size) * multiple);
  if (size < 1) {
    config.refuse("intermediate_multiple_size", "it leaves the feed-forward block no width");
  }
  spec.mlp = {.form = FeedForwardSpec::Form::kPlain,
              .hidden_size = spec.hidden_size,
              .intermediate_size = size,
              .up_name = "dense_h_to_4h",
              .down_name = "dense_4h_to_h",
              .activation = read_activation(config, "hidden_act", "gelu")};
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {"embed_out.weight", "*.rotary_emb.inv_freq"};

}  // namespace

extern const Architecture kGptNeoxJapanese;
const Architecture kGptNeoxJapanese{.model_type = "gpt_neox_japanese",
                                    .tasks = kGenerationTasks,
                                    .ignored_tensors = kIgnoredTensors,
                                    .build = build_gpt_neox_japanese};

}  // namespace onnxferry
