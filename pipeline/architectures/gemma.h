#pragma once

#include "pipeline/architectures/decoder.h"

namespace onnxferry {

/// What all Gemmas share: Llama with embeddings times √hidden_size and RMSNorm times 1 + weight,
/// without the input position_ids.
DecoderSpec read_gemma(const ModelConfig& config, const LlamaDefaults& defaults);

/// What Gemma 2 and 3 add: four norms a layer, a scale of its own and softcaps.
void read_gemma2_layers(const ModelConfig& config,
                        DecoderSpec& spec,
                        std::optional<double> attention_softcap,
                        std::optional<double> logits_softcap);

/// All of Gemma 2.
DecoderSpec read_gemma2(const ModelConfig& config);

}  // namespace onnxferry
