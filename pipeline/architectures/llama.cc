// Llama 1 to 3.3 (Meta 2023): pre-norm decoder, RMSNorm, rotary positions, SwiGLU, grouped-query
// attention from Llama 2 70B on. The trunk that most decoders here differ from.
//
// Peculiar: attention_bias and mlp_bias add biases everywhere; head_dim need not be hidden_size /
// num_attention_heads. transformers knows code_llama as another name of the type. Source:
// transformers/models/llama/modeling_llama.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_llama(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32000,
                                 .hidden_size = 4096,
                                 .intermediate_size = 11008,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32});
  read_biases(config, spec);
  spec.ort_model_reads_key_value_heads = true;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kCodeLlama;
const Architecture kCodeLlama{.model_type = "code_llama",
                              .tasks = kAllDecoderTasks,
                              .ignored_tensors = kDecoderIgnoredTensors,
                              .build = build_llama};

extern const Architecture kLlama;
const Architecture kLlama{.model_type = "llama",
                          .tasks = kAllDecoderTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_llama};

}  // namespace onnxferry
