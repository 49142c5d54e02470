// RoBERTa (Liu et al. 2019) and what shares its code: XLM-RoBERTa, CamemBERT, data2vec for text.
// BERT's encoder; no token types in practice (Optimum's exports have no such input: type 0 is added
// everywhere).
//
// Peculiar: positions count real tokens from pad_token_id + 1 on, so the table has two rows more
// than a sequence can have tokens; the sentence classifier has its own dense layer, only
// multiple-choice uses the pooler; the masked-LM head is gelu whatever hidden_act says. Source:
// transformers/models/{roberta,xlm_roberta,camembert,data2vec}/modeling_*.py.

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build(const BuildContext& context,
                              std::string_view base,
                              const BertDefaults& defaults) {
  return build_roberta_like(context, BertConfig(context, base, defaults));
}

std::vector<BuiltGraph> build_roberta(const BuildContext& context) {
  return build(context, "roberta", {.vocab_size = 50265});
}
std::vector<BuiltGraph> build_xlm_roberta(const BuildContext& context) {
  return build(context, "roberta", {});
}
std::vector<BuiltGraph> build_data2vec_text(const BuildContext& context) {
  return build(context, "data2vec_text", {});
}

}  // namespace

extern const Architecture kCamembert, kData2VecText, kRoberta, kXlmRoberta;
const Architecture kCamembert{.model_type = "camembert",
                              .tasks = kTextEncoderTasks,
                              .ignored_tensors = kRobertaIgnoredTensors,
                              .build = build_xlm_roberta};
const Architecture kData2VecText{.model_type = "data2vec-text",
                                 .tasks = kTextEncoderTasks,
                                 .ignored_tensors = kRobertaIgnoredTensors,
                                 .build = build_data2vec_text};
const Architecture kRoberta{.model_type = "roberta",
                            .tasks = kTextEncoderTasks,
                            .ignored_tensors = kRobertaIgnoredTensors,
                            .build = build_roberta};
const Architecture kXlmRoberta{.model_type = "xlm-roberta",
                               .tasks = kTextEncoderTasks,
                               .ignored_tensors = kRobertaIgnoredTensors,
                               .build = build_xlm_roberta};

}  // namespace onnxferry
