#include "pipeline/architectures/registry.h"

#include <algorithm>
#include <array>
#include <set>
#include <tuple>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/architectures/sentence.h"
#include "pipeline/error.h"
#include "pipeline/tasks.h"

namespace onnxferry {

// One line per architecture, sorted. (A list, not self-registration: the linker would drop the
// objects.)
#define ONNXFERRY_ARCHITECTURES(X) \
  X(kAlbert)                       \
  X(kApertus)                      \
  X(kArcee)                        \
  X(kBert)                         \
  X(kBigBird)                      \
  X(kBiogpt)                       \
  X(kBloom)                        \
  X(kCamembert)                    \
  X(kCodeLlama)                    \
  X(kCodegen)                      \
  X(kCohere)                       \
  X(kCohere2)                      \
  X(kConvBert)                     \
  X(kCtrl)                         \
  X(kData2VecText)                 \
  X(kDeberta)                      \
  X(kDebertaV2)                    \
  X(kDeepseekV2)                   \
  X(kDeepseekV3)                   \
  X(kDiffLlama)                    \
  X(kDistilBert)                   \
  X(kDots1)                        \
  X(kElectra)                      \
  X(kErnie)                        \
  X(kErnie4_5)                     \
  X(kErnie4_5Moe)                  \
  X(kEsm)                          \
  X(kExaone4)                      \
  X(kFalcon)                       \
  X(kFlaubert)                     \
  X(kFlexOlmo)                     \
  X(kGemma)                        \
  X(kGemma2)                       \
  X(kGemma3)                       \
  X(kGemma3Text)                   \
  X(kGlm)                          \
  X(kGlm4)                         \
  X(kGlm4Moe)                      \
  X(kGptSw3)                       \
  X(kGpt2)                         \
  X(kGptBigcode)                   \
  X(kGptNeo)                       \
  X(kGptNeox)                      \
  X(kGptNeoxJapanese)              \
  X(kGptOss)                       \
  X(kGptj)                         \
  X(kGranite)                      \
  X(kGraniteMoe)                   \
  X(kGraniteMoeHybrid)             \
  X(kGraniteMoeShared)             \
  X(kHelium)                       \
  X(kHunyuanV1Dense)               \
  X(kHunyuanV1Moe)                 \
  X(kIBert)                        \
  X(kLfm2)                         \
  X(kLlama)                        \
  X(kLongformer)                   \
  X(kMarkupLm)                     \
  X(kMegatronBert)                 \
  X(kMinistral)                    \
  X(kMistral)                      \
  X(kMixtral)                      \
  X(kMobileBert)                   \
  X(kModernBert)                   \
  X(kModernBertDecoder)            \
  X(kMpnet)                        \
  X(kMpt)                          \
  X(kNemotron)                     \
  X(kNystromformer)                \
  X(kOlmo)                         \
  X(kOlmo2)                        \
  X(kOlmo3)                        \
  X(kOlmoe)                        \
  X(kOpenAiGpt)                    \
  X(kOpt)                          \
  X(kPersimmon)                    \
  X(kPhi)                          \
  X(kPhi3)                         \
  X(kPhimoe)                       \
  X(kQwen2)                        \
  X(kQwen2Moe)                     \
  X(kQwen3)                        \
  X(kQwen3Moe)                     \
  X(kRemBert)                      \
  X(kRoberta)                      \
  X(kRobertaPreLayerNorm)          \
  X(kRoFormer)                     \
  X(kSeedOss)                      \
  X(kSmolLm3)                      \
  X(kSplinter)                     \
  X(kSqueezeBert)                  \
  X(kStablelm)                     \
  X(kStarcoder2)                   \
  X(kVaultGemma)                   \
  X(kXglm)                         \
  X(kXlm)                          \
  X(kXlmRoberta)                   \
  X(kXlmRobertaXl)

#define ONNXFERRY_DECLARE(name) extern const Architecture name;
#define ONNXFERRY_ADDRESS(name) &name,

ONNXFERRY_ARCHITECTURES(ONNXFERRY_DECLARE)

namespace {

constexpr const Architecture* kArchitectures[] = {ONNXFERRY_ARCHITECTURES(ONNXFERRY_ADDRESS)};

struct ClassSuffix {
  std::string_view suffix;
  std::string_view task;
};

// Which task a transformers class stands for. The first match wins, so "Model" is last.
constexpr std::array<ClassSuffix, 13> kClassSuffixes = {{
    {"ForMaskedLM", "fill-mask"},
    {"ForPreTraining", "fill-mask"},
    {"ForSequenceClassification", "text-classification"},
    {"ForTokenClassification", "token-classification"},
    {"ForQuestionAnswering", "question-answering"},
    {"ForQuestionAnsweringSimple", "question-answering"},
    {"ForMultipleChoice", "multiple-choice"},
    {"ForCausalLM", "text-generation"},
    {"ForConditionalGeneration", "text-generation"},
    {"WithLMHeadModel", "fill-mask"},  // XLM and FlauBERT
    {"LMHeadModel", "text-generation"},
    {"ForImageClassification", "image-classification"},
    {"Model", "feature-extraction"},
}};

bool has_task(const Architecture& architecture, std::string_view task) {
  return std::ranges::find(architecture.tasks, task) != architecture.tasks.end();
}

std::string detect_task(const Architecture& architecture, const ModelConfig& config) {
  const std::string name = config.architecture_class();
  const auto* const match = std::ranges::find_if(
      kClassSuffixes, [&](const ClassSuffix& entry) { return name.ends_with(entry.suffix); });
  if (match == kClassSuffixes.end()) {
    throw Error(
        ErrorCode::kUnsupportedModel,
        fmt::format(
            "the task cannot be told from config.json's architectures ({}); name one of: {}",
            name.empty() ? "absent" : name,
            fmt::join(architecture.tasks, ", ")),
        "architectures");
  }
  const std::string with_past = std::string(match->task) + "-with-past";
  // A generating model is wanted with its cache; embeddings are not.
  const bool prefers_past =
      match->task != "feature-extraction" && has_task(architecture, with_past);
  return prefers_past ? with_past : std::string(match->task);
}

/// '*' matches any run of characters.
bool matches(std::string_view pattern, std::string_view text) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) {
    return pattern == text;
  }
  if (!text.starts_with(pattern.substr(0, star))) {
    return false;
  }
  const std::string_view rest = pattern.substr(star + 1);
  for (std::size_t at = star; at <= text.size(); ++at) {
    if (matches(rest, text.substr(at))) {
      return true;
    }
  }
  return false;
}

using TensorPlace =
    std::tuple<std::uint32_t, std::uint64_t, Dtype, Shape, std::vector<std::int64_t>>;

/// Two names of the same elements are one tensor: pytorch_model.bin keeps both of tied weights.
TensorPlace place_of(const TensorInfo& tensor) {
  return {tensor.file, tensor.offset, tensor.dtype, tensor.shape, tensor.strides};
}

/// Names of `unread` that neither the architecture ignores nor another, used name stands for.
std::vector<std::string_view> without_place(const Architecture& architecture,
                                            const std::unordered_set<const TensorInfo*>& used,
                                            std::span<const TensorInfo* const> unread) {
  std::vector<std::string_view> names;
  std::set<TensorPlace> used_places;  // filled when asked for: most checkpoints have no such tensor
  for (const TensorInfo* const tensor : unread) {
    const bool is_ignored = std::ranges::any_of(
        architecture.ignored_tensors,
        [&](std::string_view pattern) { return matches(pattern, tensor->name); });
    if (is_ignored) {
      continue;
    }
    if (used_places.empty()) {
      for (const TensorInfo* const other : used) {
        used_places.insert(place_of(*other));
      }
    }
    if (!used_places.contains(place_of(*tensor))) {
      names.push_back(tensor->name);
    }
  }
  return names;
}

}  // namespace

void BuildContext::require_head(std::string_view key) const {
  if (tensors.find(key) == nullptr) {
    throw Error(
        ErrorCode::kUnsupportedModel,
        fmt::format("task {} needs the tensor {}, which the checkpoint ({}) lacks; a head is never "
                    "invented: ask for the task the model was trained for, or leave task at auto",
                    task,
                    key,
                    config.architecture_class()),
        std::string(key));
  }
}

std::span<const Architecture* const> architectures() {
  return kArchitectures;
}

const Architecture& find_architecture(const ModelConfig& config) {
  const std::string model_type = config.model_type();
  std::vector<std::string_view> known;
  for (const Architecture* const architecture : kArchitectures) {
    if (architecture->model_type == model_type) {
      return *architecture;
    }
    known.push_back(architecture->model_type);
  }
  const std::string nearest = nearest_name(model_type, known);
  throw Error(
      ErrorCode::kUnsupportedModel,
      fmt::format("model_type {} has no builder{}; `onnxferry models` lists the {} that have",
                  model_type.empty() ? "(absent)" : model_type,
                  nearest.empty() ? "" : fmt::format(", nearest is {}", nearest),
                  known.size()),
      "model_type");
}

std::string resolve_task(std::string_view requested,
                         const Architecture& architecture,
                         const ModelConfig& config,
                         Library library) {
  const bool has_modules = library == Library::kSentenceTransformers;
  std::string task;
  if (requested.empty() || requested == "auto") {
    // Where the family has no pooling yet, its vectors are wanted all the same, not its head.
    task = !has_modules                                  ? detect_task(architecture, config)
           : has_task(architecture, kSentenceSimilarity) ? std::string(kSentenceSimilarity)
                                                         : "feature-extraction";
  } else {
    const auto canonical = canonical_task(requested);
    if (!canonical) {
      const std::string nearest = nearest_name(requested, task_names());
      throw Error(
          ErrorCode::kInvalidRequest,
          fmt::format("unknown task \"{}\"{}",
                      requested,
                      nearest.empty() ? "" : fmt::format("; did you mean \"{}\"?", nearest)),
          "task");
    }
    task = *canonical == kSentenceSimilarity && !has_modules ? "feature-extraction" : *canonical;
  }
  if (!has_task(architecture, task)) {
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("{} has no task {}; it has: {}",
                            architecture.model_type,
                            task,
                            fmt::join(architecture.tasks, ", ")),
                "task");
  }
  return task;
}

void check_tensors_consumed(const Architecture& architecture,
                            const WeightFiles& tensors,
                            std::span<const BuiltGraph> graphs) {
  std::unordered_set<const TensorInfo*> used;
  for (const BuiltGraph& graph : graphs) {
    for (const auto& [name, recipe] : graph.model.recipes) {
      const auto read = sources(recipe);
      used.insert(read.begin(), read.end());
    }
  }
  std::vector<const TensorInfo*> unread;
  for (const TensorInfo& tensor : tensors.tensors()) {
    if (!used.contains(&tensor)) {
      unread.push_back(&tensor);
    }
  }
  const std::vector<std::string_view> unexpected = without_place(architecture, used, unread);
  if (!unexpected.empty()) {
    constexpr std::size_t kShown = 5;
    const std::size_t count = unexpected.size();
    const std::span shown = std::span(unexpected).first(std::min(count, kShown));
    throw Error(
        ErrorCode::kUnsupportedModel,
        fmt::format("{} of the checkpoint's tensors have no place in {}: {}{}; the export would "
                    "leave them out silently",
                    count,
                    architecture.model_type,
                    fmt::join(shown, ", "),
                    count > kShown ? ", …" : ""),
        std::string(unexpected.front()));
  }
}

}  // namespace onnxferry
