// I-BERT (Kim et al. 2021): RoBERTa whose layers can be run in integers. Only the floating-point
// mode (quant_mode false) is exported; there every QuantLinear is a Linear and IntLayerNorm a
// LayerNorm.
//
// Peculiar: the checkpoint carries the integer weights and scales as buffers beside the float ones.
// Source: transformers/models/ibert/modeling_ibert.py.

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_ibert(const BuildContext& context) {
  const BertConfig config(context, "ibert");
  if (config.source.boolean("quant_mode", false)) {
    config.source.refuse("quant_mode", "the integer mode is not implemented; set it to false");
  }
  if (config.source.text("hidden_act", "gelu") != "gelu") {
    config.source.refuse("hidden_act", "I-BERT knows only gelu");
  }
  static_cast<void>(config.source.text("force_dequant", "none"));  // of the integer mode
  return build_roberta_like(context, config);
}

constexpr std::string_view kIgnoredTensors[] = {"*pooler.*",
                                                "lm_head.*",
                                                "classifier.*",
                                                "qa_outputs.*",
                                                "*embeddings.position_ids",
                                                "*_scaling_factor",
                                                "*_integer",
                                                "*.x_min",
                                                "*.x_max",
                                                "*.act_scaling_factor",
                                                "*.shift"};

}  // namespace

extern const Architecture kIBert;
const Architecture kIBert{.model_type = "ibert",
                          .tasks = kTextEncoderTasks,
                          .ignored_tensors = kIgnoredTensors,
                          .build = build_ibert};

}  // namespace onnxferry
