// Granite 3 (IBM 2024): Llama with multipliers on embeddings, residuals, scores and logits. Source:
// transformers/models/granite/modeling_granite.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_granite(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32000,
                                 .hidden_size = 4096,
                                 .intermediate_size = 11008,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32});
  read_biases(config, spec);
  spec.attention.scale = config.number("attention_multiplier", 1);
  spec.embedding_multiplier = config.number("embedding_multiplier", 1);
  spec.residual_multiplier = config.number("residual_multiplier", 1);
  spec.logits_multiplier = 1 / config.number("logits_scaling", 1);
  spec.ort_model_reads_key_value_heads = true;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kGranite;
const Architecture kGranite{.model_type = "granite",
                            .tasks = kGenerationTasks,
                            .ignored_tensors = kDecoderIgnoredTensors,
                            .build = build_granite};

}  // namespace onnxferry
