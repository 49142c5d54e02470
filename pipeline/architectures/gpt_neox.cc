// GPT-NeoX (Black et al. 2022; Pythia, Dolly): attention and feed-forward in parallel, each behind
// its own LayerNorm, or one after the other; rotary positions in a part of each head.
//
// Peculiar: query_key_value's rows stand head by head (query, key, value). The rotary part and base
// are rotary_pct and rotary_emb_base; transformers overwrites partial_rotary_factor and rope_theta
// with them. Source: transformers/models/gpt_neox/modeling_gpt_neox.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

void read_attention(const ModelConfig& config, DecoderSpec& spec) {
  SelfAttentionSpec& attention = spec.attention;
  attention.num_heads = config.dimension("num_attention_heads", 64);
  set_plain_heads(config, spec);
  attention.form = QkvForm::kGrouped;
  attention.qkv_name = "query_key_value";
  attention.output_name = "dense";
  attention.qkv_bias = attention.output_bias =
      config.boolean("attention_bias", true) ? Bias::kYes : Bias::kNo;
  const double part = config.number("rotary_pct", 0.25);
  const auto rotary_dim = static_cast<std::int64_t>(static_cast<double>(attention.head_dim) * part);
  spec.ropes = {read_rope(config, rotary_dim, 10000.0, "rotary_emb_base")};
  config.disregard("partial_rotary_factor");
  config.disregard("rope_theta");
}

std::vector<BuiltGraph> build_gpt_neox(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec;
  spec.names = {.base = "gpt_neox",
                .embedding = "embed_in",
                .final_norm = "final_layer_norm",
                .head = "embed_out",
                .token_classifier = "classifier",
                .attention = "attention"};
  spec.vocab_size = config.dimension("vocab_size", 50432);
  spec.hidden_size = config.dimension("hidden_size", 6144);
  spec.norm = {NormKind::kLayer, config.number("layer_norm_eps", 1e-5)};
  spec.is_tied = config.boolean("tie_word_embeddings", false);
  spec.residual =
      config.boolean("use_parallel_residual", true) ? Residual::kParallel : Residual::kSequential;
  spec.layers = plain_layers(config.dimension("num_hidden_layers", 44));
  read_attention(config, spec);
  spec.mlp = {.form = FeedForwardSpec::Form::kPlain,
              .hidden_size = spec.hidden_size,
              .intermediate_size = config.dimension("intermediate_size", 24576),
              .up_name = "dense_h_to_4h",
              .down_name = "dense_4h_to_h",
              .activation = read_activation(config, "hidden_act", "gelu"),
              .bias = Bias::kYes};
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {"embed_out.weight",
                                                "score.*",
                                                "*.attention.bias",
                                                "*.attention.masked_bias",
                                                "*.rotary_emb.inv_freq"};

}  // namespace

extern const Architecture kGptNeox;
const Architecture kGptNeox{.model_type = "gpt_neox",
                            .tasks = kAllDecoderTasks,
                            .ignored_tensors = kIgnoredTensors,
                            .build = build_gpt_neox};

}  // namespace onnxferry
