// Qwen3 (Qwen team 2025): Qwen2 without biases, with an RMSNorm on every head's query and key.
//
// Peculiar: head_dim is 128 whatever the hidden size; windows as in Qwen2. Source:
// transformers/models/qwen3/modeling_qwen3.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_qwen3(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 151936,
                                 .hidden_size = 4096,
                                 .intermediate_size = 22016,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 32,
                                 .head_dim = 128});
  read_biases(config, spec);
  read_qwen_windows(config, spec);
  spec.attention.qk_norm = QkNorm::kPerHead;
  spec.ort_model_reads_key_value_heads = true;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kQwen3;
const Architecture kQwen3{.model_type = "qwen3",
                          .tasks = kAllDecoderTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_qwen3};

}  // namespace onnxferry
