// XGLM (Lin et al. 2021): fairseq's multilingual decoder; an embedding scaled by sqrt(d_model),
// sinusoidal positions, tied head.
//
// Peculiar: all sines come first, then all cosines; positions start at 2; transformers makes row
// pad_token_id of the position table zero, so with an id above 1 a real position has no encoding.
// Source: transformers/models/xglm/modeling_xglm.py.

#include <cmath>

#include "pipeline/architectures/fairseq.h"

namespace onnxferry {
namespace {

/// [B or 1, S, size], computed: a table would need a row per position.
Value sinusoids(GraphBuilder& g, const Value& rows, std::int64_t size) {
  const auto scope = g.float32_scope("");
  const std::int64_t half = size / 2;
  const auto step = static_cast<float>(-std::log(10000.0) / static_cast<double>(half - 1));
  std::vector<float> frequencies(static_cast<std::size_t>(half));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::exp(static_cast<float>(i) * step);
  }
  const Value positions = g.Unsqueeze(g.Cast(rows, Dtype::kFloat32), {2});
  const Value angles = g.Mul(positions, g.floats(frequencies));
  const Value sines = g.Sin(angles);
  return g.Concat({sines, g.Cos(angles)}, -1);
}

void add_sinusoidal_positions(DecoderSpec& spec, std::int64_t zero_row) {
  spec.after_embedding =
      [size = spec.hidden_size, zero_row](
          GraphBuilder& g, DecoderInputs& inputs, const Value& words, const std::string&) {
        const auto scope = g.scope("embed_positions");
        const Value rows = g.Add(inputs.position_ids(), g.int_scalar(kFairseqPositionOffset));
        const Value encoding = sinusoids(g, rows, size);
        if (zero_row < kFairseqPositionOffset) {
          return g.Add(words, encoding);
        }
        const Value is_zero = g.Unsqueeze(g.Equal(rows, g.int_scalar(zero_row)), {2});
        return g.Add(words, g.Where(is_zero, g.float_scalar(0.0F), encoding));
      };
}

std::vector<BuiltGraph> build_xglm(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec;
  spec.names = {.final_norm = "layer_norm"};
  spec.vocab_size = config.dimension("vocab_size", 256008);
  spec.hidden_size = aliased_dimension(config, "d_model", "hidden_size", 1024);
  if (spec.hidden_size % 2 != 0 || spec.hidden_size < 4) {
    config.refuse("d_model", "sinusoidal positions need an even number of at least 4");
  }
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  use_fairseq_layers(
      config,
      spec,
      {.num_layers = aliased_dimension(config, "num_layers", "num_hidden_layers", 24),
       .num_heads = aliased_dimension(config, "attention_heads", "num_attention_heads", 16),
       .intermediate_size = config.dimension("ffn_dim", 4096),
       .activation = read_activation(config, "activation_function", "gelu")});
  if (config.boolean("scale_embedding", true)) {
    spec.embedding_multiplier = std::sqrt(static_cast<double>(spec.hidden_size));
  }
  add_sinusoidal_positions(spec, config.integer("pad_token_id", 1));
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {"lm_head.weight", "*.embed_positions.weights"};

}  // namespace

extern const Architecture kXglm;
const Architecture kXglm{.model_type = "xglm",
                         .tasks = kGenerationTasks,
                         .ignored_tensors = kIgnoredTensors,
                         .build = build_xglm};

}  // namespace onnxferry
