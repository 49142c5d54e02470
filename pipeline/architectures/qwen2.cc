// Qwen2 and Qwen2.5 (Qwen team 2024): Llama with biases on q, k and v.
//
// Peculiar: sliding windows only where layer_types says so, or (older configs) with
// use_sliding_window in layers from max_window_layers on; small models tie lm_head to the
// embedding. head_dim is not a documented key, but transformers obeys it. Source:
// transformers/models/qwen2/modeling_qwen2.py, GenericForSequenceClassification in
// modeling_layers.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_qwen2(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 151936,
                                 .hidden_size = 4096,
                                 .intermediate_size = 22016,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32});
  spec.attention.qkv_bias = Bias::kYes;
  spec.ort_model_reads_key_value_heads = true;
  read_qwen_windows(config, spec);
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kQwen2;
const Architecture kQwen2{.model_type = "qwen2",
                          .tasks = kAllDecoderTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_qwen2};

}  // namespace onnxferry
