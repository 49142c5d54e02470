// GPT-J (Wang and Komatsuzaki 2021): attention and feed-forward in parallel behind one LayerNorm,
// rotary positions in the first rotary_dim elements of each head, pairs (2i, 2i + 1).
//
// Peculiar: the rotary base is 10000 whatever the config says; the head has a bias. Source:
// transformers/models/gptj/modeling_gptj.py.

#include "pipeline/architectures/gpt.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_gptj(const BuildContext& context) {
  return build_decoder(context, read_gptj(context.config));
}

constexpr std::string_view kTasks[] = {"feature-extraction",
                                       "feature-extraction-with-past",
                                       kSentenceSimilarity,
                                       "text-generation",
                                       "text-generation-with-past",
                                       "text-classification",
                                       "question-answering"};
constexpr std::string_view kIgnoredTensors[] = {
    "lm_head.*", "score.*", "*.attn.bias", "*.attn.masked_bias"};

}  // namespace

extern const Architecture kGptj;
const Architecture kGptj{
    .model_type = "gptj", .tasks = kTasks, .ignored_tensors = kIgnoredTensors, .build = build_gptj};

}  // namespace onnxferry
