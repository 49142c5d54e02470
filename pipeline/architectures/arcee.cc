// Arcee Foundation Models (Arcee AI 2025): Llama with squared ReLU and no gate. Source:
// transformers/models/arcee/modeling_arcee.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_arcee(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32000,
                                 .hidden_size = 2560,
                                 .intermediate_size = 18432,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .rms_norm_eps = 1e-5,
                                 .hidden_act = "relu2"});
  read_biases(config, spec);
  spec.mlp.form = FeedForwardSpec::Form::kPlain;
  spec.ort_model_reads_key_value_heads = true;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kArcee;
const Architecture kArcee{.model_type = "arcee",
                          .tasks = kAllDecoderTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_arcee};

}  // namespace onnxferry
