#include "pipeline/tasks.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

namespace onnxferry {
namespace {

// Source: optimum's TasksManager.
constexpr std::array<std::string_view, 22> kTasks = {"audio-classification",
                                                     "audio-frame-classification",
                                                     "audio-xvector",
                                                     "automatic-speech-recognition",
                                                     "depth-estimation",
                                                     "feature-extraction",
                                                     "fill-mask",
                                                     "image-classification",
                                                     "image-segmentation",
                                                     "image-to-image",
                                                     "image-to-text",
                                                     "multiple-choice",
                                                     "object-detection",
                                                     "question-answering",
                                                     "sentence-similarity",
                                                     "semantic-segmentation",
                                                     "text-classification",
                                                     "text-generation",
                                                     "text-to-audio",
                                                     "text2text-generation",
                                                     "token-classification",
                                                     "zero-shot-image-classification"};

struct Synonym {
  std::string_view name;
  std::string_view task;
};

constexpr std::array<Synonym, 18> kSynonyms = {{
    {"audio-ctc", "automatic-speech-recognition"},
    {"causal-lm", "text-generation"},
    {"conversational", "text-generation"},
    {"default", "feature-extraction"},
    {"image-feature-extraction", "feature-extraction"},
    {"mask-generation", "feature-extraction"},
    {"masked-lm", "fill-mask"},
    {"ner", "token-classification"},
    {"pretraining", "feature-extraction"},
    {"sentiment-analysis", "text-classification"},
    {"seq2seq-lm", "text2text-generation"},
    {"sequence-classification", "text-classification"},
    {"speech2seq-lm", "automatic-speech-recognition"},
    {"summarization", "text2text-generation"},
    {"text-to-speech", "text-to-audio"},
    {"translation", "text2text-generation"},
    {"vision2seq-lm", "image-to-text"},
    {"zero-shot-classification", "text-classification"},
}};

constexpr std::string_view kWithPast = "-with-past";

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row.back();
}

}  // namespace

std::span<const std::string_view> task_names() {
  return kTasks;
}

std::optional<std::string> canonical_task(std::string_view name) {
  std::string_view base = name;
  std::string_view suffix;
  if (base.ends_with(kWithPast)) {
    base.remove_suffix(kWithPast.size());
    suffix = kWithPast;
  }
  const auto* const synonym = std::ranges::find(kSynonyms, base, &Synonym::name);
  if (synonym != kSynonyms.end()) {
    base = synonym->task;
  }
  if (std::ranges::find(kTasks, base) == kTasks.end()) {
    return std::nullopt;
  }
  return std::string(base).append(suffix);
}

std::string nearest_name(std::string_view name, std::span<const std::string_view> known) {
  constexpr std::size_t kMaxCompared = 100;
  name = name.substr(0, kMaxCompared);
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const std::string_view candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return std::string(best);
}

}  // namespace onnxferry
