// GPT-Neo (Black et al. 2021): GPT-2 with separate, bias-free projections and layers that alternate
// between full attention and a window.
//
// Peculiar: scores are not scaled, and computed in float32 because they outgrow float16. Which
// layer is local stands in attention_layers; it wins over attention_types, from which transformers
// derives it. Source: transformers/models/gpt_neo/modeling_gpt_neo.py.

#include "pipeline/architectures/gpt.h"

namespace onnxferry {
namespace {

void read_local_layers(const ModelConfig& config, DecoderSpec& spec) {
  const auto layers = config.find_texts("attention_layers");
  if (!layers && config.has("attention_types")) {
    config.refuse("attention_types",
                  "add attention_layers, one of \"global\" and \"local\" per layer");
  }
  if (layers && layers->size() != spec.layers.size()) {
    config.refuse("attention_layers", "expected one entry per layer");
  }
  const std::int64_t window = config.dimension("window_size", 256);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const bool is_local = layers ? layers->at(i) == "local" : i % 2 == 1;
    if (layers && !is_local && layers->at(i) != "global") {
      config.refuse("attention_layers", "known layers are global and local");
    }
    spec.layers[i].window = is_local ? window : 0;
  }
}

std::vector<BuiltGraph> build_gpt_neo(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec;
  spec.names = {.base = "transformer",
                .embedding = "wte",
                .layers = "h",
                .final_norm = "ln_f",
                .token_classifier = "classifier",
                .attention = "attn.attention",
                .pre_attention_norm = "ln_1",
                .pre_mlp_norm = "ln_2"};
  spec.vocab_size = config.dimension("vocab_size", 50257);
  spec.hidden_size = config.dimension("hidden_size", 2048);
  spec.norm = {NormKind::kLayer, config.number("layer_norm_epsilon", 1e-5)};
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  spec.layers = plain_layers(aliased_dimension(config, "num_layers", "num_hidden_layers", 24));
  read_local_layers(config, spec);
  add_learned_positions(spec, "wpe", config.dimension("max_position_embeddings", 2048));

  spec.attention.num_heads = aliased_dimension(config, "num_heads", "num_attention_heads", 16);
  set_plain_heads(config, spec);
  spec.attention.scale = 1.0;
  spec.attention.scores = SelfAttentionSpec::Scores::kFloat32;
  spec.attention.output_name = "out_proj";
  spec.attention.output_bias = Bias::kYes;
  spec.mlp = {.form = FeedForwardSpec::Form::kPlain,
              .hidden_size = spec.hidden_size,
              .intermediate_size = config.dimension("intermediate_size", 4 * spec.hidden_size),
              .up_name = "c_fc",
              .down_name = "c_proj",
              .activation = read_activation(config, "activation_function", "gelu_new"),
              .bias = Bias::kYes};
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {
    "lm_head.weight", "score.*", "*.attention.bias", "*.attention.masked_bias"};

}  // namespace

extern const Architecture kGptNeo;
const Architecture kGptNeo{.model_type = "gpt_neo",
                           .tasks = kAllDecoderTasks,
                           .ignored_tensors = kIgnoredTensors,
                           .build = build_gpt_neo};

}  // namespace onnxferry
