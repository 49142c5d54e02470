// OPT (Zhang et al. 2022; also Galactica): learned positions, ReLU, biases; fc1 and fc2 stand
// directly in the layer.
//
// Peculiar: row i of the position table belongs to position i - 2. Tasks without position_ids count
// the mask's ones, padding is -1. opt-350m has its norms behind the additions, none at the end, and
// an embedding narrower than the layers (project_in, project_out). Galactica has neither biases nor
// norm weights. Source: transformers/models/opt/modeling_opt.py.

#include <fmt/format.h>

#include "pipeline/architectures/fairseq.h"

namespace onnxferry {
namespace {

/// The embedding's projections into the layers and out again.
void add_projections(DecoderSpec& spec, std::int64_t embedding_size) {
  spec.embedding_size = embedding_size;
  const auto project = [](std::string_view name, std::int64_t in, std::int64_t out) {
    return [=](GraphBuilder& g, const Value& x, const std::string& base) {
      const auto scope = g.scope(name);
      return linear(g, x, fmt::format("{}{}", base, name), in, out, Bias::kNo);
    };
  };
  spec.after_embedding =
      [project_in = project("project_in", embedding_size, spec.hidden_size),
       add_positions = spec.after_embedding](
          GraphBuilder& g, DecoderInputs& inputs, const Value& words, const std::string& base) {
        return add_positions(g, inputs, project_in(g, words, base), base);
      };
  spec.after_layers = project("project_out", spec.hidden_size, embedding_size);
}

std::vector<BuiltGraph> build_opt(const BuildContext& context) {
  const ModelConfig& config = context.config;
  const bool has_norms_before = config.boolean("do_layer_norm_before", true);
  const bool has_final_norm =
      !config.boolean("_remove_final_layer_norm", false) && has_norms_before;
  DecoderSpec spec;
  spec.names = {.base = "model.decoder", .final_norm = has_final_norm ? "final_layer_norm" : ""};
  spec.vocab_size = config.dimension("vocab_size", 50272);
  spec.hidden_size = config.dimension("hidden_size", 768);
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  spec.residual = has_norms_before ? Residual::kSequential : Residual::kNormAfter;
  spec.classifier_positions = PositionInput::kFromMask;
  spec.pad_token_id = 1;
  use_fairseq_layers(config,
                     spec,
                     {.num_layers = config.dimension("num_hidden_layers", 12),
                      .num_heads = config.dimension("num_attention_heads", 12),
                      .intermediate_size = config.dimension("ffn_dim", 3072),
                      .activation = read_activation(config, "activation_function", "relu"),
                      .bias = config.boolean("enable_bias", true) ? Bias::kYes : Bias::kNo});
  if (!config.boolean("layer_norm_elementwise_affine", true)) {
    spec.norm.kind = NormKind::kLayerWithoutAffine;
  }
  const std::int64_t positions = config.dimension("max_position_embeddings", 2048);
  add_learned_positions(
      spec, "embed_positions", positions + kFairseqPositionOffset, kFairseqPositionOffset);
  const std::int64_t size = config.dimension("word_embed_proj_dim", spec.hidden_size);
  if (size != spec.hidden_size) {
    add_projections(spec, size);
  }
  return build_decoder(context, spec);
}

constexpr std::string_view kTasks[] = {"feature-extraction",
                                       "feature-extraction-with-past",
                                       kSentenceSimilarity,
                                       "text-generation",
                                       "text-generation-with-past",
                                       "text-classification",
                                       "question-answering"};

}  // namespace

extern const Architecture kOpt;
const Architecture kOpt{.model_type = "opt",
                        .tasks = kTasks,
                        .ignored_tensors = kDecoderIgnoredTensors,
                        .build = build_opt};

}  // namespace onnxferry
