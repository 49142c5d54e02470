// BioGPT (Luo et al. 2022): OPT with an exact GELU and an embedding scaled by sqrt(hidden_size).
//
// Peculiar: row i of the position table belongs to position i - 2; tasks without position_ids count
// the mask's ones. Every LayerNorm has an epsilon of 1e-5, whatever layer_norm_eps says. Text
// classification takes the token at (number of tokens that are not padding) - 1, which is the last
// one only where padding stands on the right. Source:
// transformers/models/biogpt/modeling_biogpt.py.

#include <cmath>

#include "pipeline/architectures/fairseq.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_biogpt(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec;
  spec.names = {.base = "biogpt",
                .final_norm = "layer_norm",
                .head = "output_projection",
                .token_classifier = "classifier"};
  spec.vocab_size = config.dimension("vocab_size", 42384);
  spec.hidden_size = config.dimension("hidden_size", 1024);
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  spec.classifier_positions = PositionInput::kFromMask;
  spec.classified_token = ClassifiedToken::kAtCount;
  spec.pad_token_id = 1;
  use_fairseq_layers(config,
                     spec,
                     {.num_layers = config.dimension("num_hidden_layers", 24),
                      .num_heads = config.dimension("num_attention_heads", 16),
                      .intermediate_size = config.dimension("intermediate_size", 4096),
                      .activation = read_activation(config, "hidden_act", "gelu")});
  config.disregard("layer_norm_eps");
  if (config.boolean("scale_embedding", true)) {
    spec.embedding_multiplier = std::sqrt(static_cast<double>(spec.hidden_size));
  }
  const std::int64_t positions = config.dimension("max_position_embeddings", 1024);
  add_learned_positions(
      spec, "embed_positions", positions + kFairseqPositionOffset, kFairseqPositionOffset);
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {"output_projection.weight", "score.*"};

}  // namespace

extern const Architecture kBiogpt;
const Architecture kBiogpt{.model_type = "biogpt",
                           .tasks = kTokenDecoderTasks,
                           .ignored_tensors = kIgnoredTensors,
                           .build = build_biogpt};

}  // namespace onnxferry
