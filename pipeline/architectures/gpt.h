#pragma once

#include <string_view>

#include "pipeline/architectures/decoder.h"

namespace onnxferry {

/// Defaults of a transformers config class for the keys that GPT-2 and its descendants share.
struct GptDefaults {
  std::int64_t vocab_size, n_embd, n_layer, n_head;
  std::string_view activation_function = "gelu_new";
};

/// A GPT-2 without positions: pre-norm LayerNorm layers, c_attn with all queries, keys and values,
/// plain feed-forward, biases everywhere, tied head. Reads the keys of GptDefaults under both of
/// their names, n_inner and layer_norm_epsilon.
/// \throws Error{kUnsupportedModel, kCorruptCheckpoint}
DecoderSpec read_gpt(const ModelConfig& config, const GptDefaults& defaults);

/// A GPT-J: read_gpt with attention and feed-forward in parallel behind one norm, interleaved
/// rotary positions in the first rotary_dim elements of a head, no attention biases, an own head
/// with bias.
DecoderSpec read_gptj(const ModelConfig& config);

/// kDecoderIgnoredTensors and GPT-2's causal mask, which old versions stored.
inline constexpr std::string_view kGptIgnoredTensors[] = {"lm_head.weight",
                                                          "score.*",
                                                          "classifier.*",
                                                          "qa_outputs.*",
                                                          "*.attn.bias",
                                                          "*.attn.masked_bias"};

}  // namespace onnxferry
