// CTRL (Keskar et al. 2019): GPT-2's layers with separate projections, ReLU, sinusoidal positions
// and an embedding scaled by √n_embd.
//
// Peculiar: all sines come first, then all cosines; the norms of a layer have an epsilon of 1e-6
// whatever layer_norm_epsilon, the last norm's, says; the tied head has a bias of its own. Source:
// transformers/models/ctrl/modeling_ctrl.py.

#include <cmath>

#include <fmt/format.h>

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

/// Adds [sin(p · f), cos(p · f)] with f_j = 10000^(-2j / size), computed: a table would need a row
/// per position.
void add_sinusoidal_positions(DecoderSpec& spec) {
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < spec.hidden_size; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(spec.hidden_size);
    frequencies.push_back(1.0F / std::pow(10000.0F, exponent));
  }
  spec.after_embedding =
      [frequencies](
          GraphBuilder& g, DecoderInputs& inputs, const Value& words, const std::string&) {
        const Value encoding = [&] {
          const auto scope = g.float32_scope("pos_encoding");
          const Value positions = g.Unsqueeze(g.Cast(inputs.position_ids(), Dtype::kFloat32), {2});
          const Value angles = g.Mul(positions, g.floats(frequencies));
          const Value sines = g.Sin(angles);
          return g.Concat({sines, g.Cos(angles)}, -1);
        }();
        return g.Add(words, encoding);
      };
}

std::vector<BuiltGraph> build_ctrl(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec;
  spec.names = {.base = "transformer",
                .embedding = "w",
                .layers = "h",
                .final_norm = "",
                .sequence_classifier = "classifier",
                .attention = "multi_head_attention",
                .mlp = "ffn",
                .pre_attention_norm = "layernorm1",
                .pre_mlp_norm = "layernorm2"};
  spec.vocab_size = config.dimension("vocab_size", 246534);
  spec.hidden_size = aliased_dimension(config, "n_embd", "hidden_size", 1280);
  if (spec.hidden_size % 2 != 0) {
    config.refuse("n_embd", "sinusoidal positions need an even number");
  }
  spec.norm = {NormKind::kLayer, 1e-6};
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  spec.head_bias = Bias::kYes;
  spec.embedding_multiplier = std::sqrt(static_cast<double>(spec.hidden_size));
  spec.layers = plain_layers(aliased_dimension(config, "n_layer", "num_hidden_layers", 48));
  spec.attention.num_heads = aliased_dimension(config, "n_head", "num_attention_heads", 16);
  set_plain_heads(config, spec);
  spec.attention.query_name = "Wq";
  spec.attention.key_name = "Wk";
  spec.attention.value_name = "Wv";
  spec.attention.output_name = "dense";
  spec.attention.qkv_bias = spec.attention.output_bias = Bias::kYes;
  spec.mlp = {.form = FeedForwardSpec::Form::kPlain,
              .hidden_size = spec.hidden_size,
              .intermediate_size = config.dimension("dff", 8192),
              .up_name = "0",
              .down_name = "2",
              .activation = relu_activation,
              .bias = Bias::kYes};
  add_sinusoidal_positions(spec);
  spec.after_layers = [size = spec.hidden_size,
                       epsilon = config.number("layer_norm_epsilon", 1e-6)](
                          GraphBuilder& g, const Value& x, const std::string& base) {
    const auto scope = g.scope("layernorm");
    return layer_norm(g, x, fmt::format("{}layernorm", base), size, epsilon);
  };
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {"lm_head.*", "classifier.weight"};

}  // namespace

extern const Architecture kCtrl;
const Architecture kCtrl{.model_type = "ctrl",
                         .tasks = kDecoderTasks,
                         .ignored_tensors = kIgnoredTensors,
                         .build = build_ctrl};

}  // namespace onnxferry
