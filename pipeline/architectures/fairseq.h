#pragma once

#include "pipeline/architectures/decoder.h"

namespace onnxferry {

/// Rows before position 0 in the position tables of fairseq's models.
inline constexpr std::int64_t kFairseqPositionOffset = 2;

/// The layers of a decoder that came from fairseq (OPT, BioGPT, XGLM).
struct FairseqLayers {
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t intermediate_size = 0;
  Activation activation = nullptr;
  Bias bias = Bias::kYes;
};

/// Give a spec whose hidden_size is set such layers: LayerNorms with a constant epsilon of 1e-5
/// before each block, separate projections, fc1 and fc2 directly in the layer.
/// \throws Error{kUnsupportedModel} if the heads do not divide the hidden size
void use_fairseq_layers(const ModelConfig& config, DecoderSpec& spec, const FairseqLayers& layers);

}  // namespace onnxferry
