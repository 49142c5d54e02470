#include "pipeline/checkpoint/sentence_modules.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "pipeline/checkpoint/model_config.h"
#include "pipeline/error.h"
#include "pipeline/quote.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModulesFile = "modules.json";
constexpr std::string_view kConfigFile = "config.json";
constexpr std::string_view kTransformerConfig = "sentence_bert_config.json";
constexpr std::size_t kMaxModules = 16;
constexpr std::uintmax_t kMaxFileBytes = 1U << 20;

[[noreturn]] void fail(const std::string& text, ErrorCode code = ErrorCode::kCorruptCheckpoint) {
  throw Error(code, fmt::format("{}: {}", kModulesFile, text), std::string(kModulesFile));
}

[[noreturn]] void refuse(const std::string& text) {
  fail(text, ErrorCode::kUnsupportedModel);
}

enum class ModuleKind : std::uint8_t { kTransformer, kPooling, kDense, kNormalize };

struct ModuleType {
  std::string_view type;
  ModuleKind kind;
};

// As versions 0 to 5 write the class, and as 6 does.
constexpr auto kTypes = std::to_array<ModuleType>({
    {"sentence_transformers.models.Transformer", ModuleKind::kTransformer},
    {"sentence_transformers.base.modules.transformer.Transformer", ModuleKind::kTransformer},
    {"sentence_transformers.models.Pooling", ModuleKind::kPooling},
    {"sentence_transformers.sentence_transformer.modules.pooling.Pooling", ModuleKind::kPooling},
    {"sentence_transformers.models.Dense", ModuleKind::kDense},
    {"sentence_transformers.base.modules.dense.Dense", ModuleKind::kDense},
    {"sentence_transformers.models.Normalize", ModuleKind::kNormalize},
    {"sentence_transformers.base.modules.normalize.Normalize", ModuleKind::kNormalize},
});

struct Module {
  ModuleKind kind;
  std::string path;
};

ModuleKind kind_of(const std::string& type) {
  // Some versions repeat the class behind the module: "….models.Dense.Dense".
  std::string_view name = type;
  const std::size_t dot = name.rfind('.');
  if (dot != std::string_view::npos && name.substr(0, dot).ends_with(name.substr(dot))) {
    name = name.substr(0, dot);
  }
  const auto* const known =
      std::ranges::find_if(kTypes, [&](const ModuleType& row) { return row.type == name; });
  if (known == kTypes.end()) {
    refuse(
        fmt::format("has the module {}; implemented are Transformer, Pooling, Dense and "
                    "Normalize of sentence_transformers.models",
                    quote(type)));
  }
  return known->kind;
}

std::string text_of(const nlohmann::json& entry, const char* key) {
  const auto found = entry.find(key);
  if (found == entry.end() || !found->is_string()) {
    fail(fmt::format("has a module without the text {}", quote(key)));
  }
  return found->get<std::string>();
}

std::string read_file(const fs::path& path) {
  std::error_code error;
  const std::uintmax_t bytes = fs::file_size(path, error);
  if (error || bytes > kMaxFileBytes) {
    fail(error ? fmt::format("cannot be read: {}", error.message())
               : fmt::format("has {} bytes, expected at most {}", bytes, kMaxFileBytes),
         error ? ErrorCode::kCorruptCheckpoint : ErrorCode::kLimitExceeded);
  }
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Module to_module(const nlohmann::json& entry) {
  if (!entry.is_object()) {
    fail("has a module that is no object");
  }
  const auto kwargs = entry.find("kwargs");
  if (kwargs != entry.end() && !kwargs->empty()) {
    refuse("has a module with kwargs, which change what it computes");
  }
  Module module{.kind = kind_of(text_of(entry, "type")), .path = text_of(entry, "path")};
  const bool is_plain = module.path.find_first_of("/\\") == std::string::npos &&
                        !module.path.starts_with('.') && module.path.size() <= 255 &&
                        std::ranges::none_of(module.path, [](unsigned char c) { return c < 0x20; });
  if (!is_plain) {
    fail(fmt::format("has the path {}; expected the name of a folder beside it",
                     quote(module.path)));
  }
  return module;
}

std::vector<Module> read_modules(const fs::path& model_root) {
  const auto json = nlohmann::json::parse(
      read_file(model_root / kModulesFile), nullptr, /*allow_exceptions=*/false);
  if (!json.is_array() || json.empty() || json.size() > kMaxModules) {
    fail(fmt::format("is no JSON array of 1 to {} modules", kMaxModules));
  }
  std::vector<Module> modules;
  std::ranges::transform(json, std::back_inserter(modules), to_module);
  return modules;
}

/// Version 6 lets Dense and Normalize work on other values than the sentence's vector.
void check_in_and_out(const ModelConfig& config) {
  for (const char* key : {"module_input_name", "module_output_name"}) {
    if (config.text(key, "sentence_embedding") != "sentence_embedding") {
      config.refuse(key, "only modules on sentence_embedding are implemented");
    }
  }
}

void check_all_read(const ModelConfig& config, const std::string& folder) {
  for (const auto& leftover : config.leftovers()) {
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("{}/config.json: {} is {}, a setting that is not implemented",
                            folder,
                            quote(leftover.path),
                            quote(leftover.value)),
                folder);
  }
}

// In the order in which sentence-transformers concatenates.
constexpr auto kModes = std::to_array<std::tuple<std::string_view, std::string_view, PoolingMode>>({
    {"pooling_mode_cls_token", "cls", PoolingMode::kFirstToken},
    {"pooling_mode_max_tokens", "max", PoolingMode::kMax},
    {"pooling_mode_mean_tokens", "mean", PoolingMode::kMean},
    {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", PoolingMode::kMeanSqrtLength},
    {"pooling_mode_weightedmean_tokens", "weightedmean", PoolingMode::kWeightedMean},
    {"pooling_mode_lasttoken", "lasttoken", PoolingMode::kLastToken},
});

/// Version 6 names the modes; before, each had a key, of which only mean is on when absent.
std::vector<PoolingMode> read_modes(const ModelConfig& config) {
  std::vector<PoolingMode> modes;
  std::vector<PoolingMode> flagged;
  for (const auto& [key, name, mode] : kModes) {
    if (config.boolean(key, mode == PoolingMode::kMean)) {
      flagged.push_back(mode);
    }
  }
  if (!config.has("pooling_mode")) {
    return flagged;
  }
  for (const std::string& word : config.words("pooling_mode")) {
    const auto* const row =
        std::ranges::find_if(kModes, [&](const auto& known) { return std::get<1>(known) == word; });
    if (row == kModes.end()) {
      config.refuse("pooling_mode", "no such mode is known");
    }
    modes.push_back(std::get<2>(*row));
  }
  return modes;
}

void read_pooling(const fs::path& model_root, const Module& module, SentenceModules& modules) {
  const ModelConfig config = ModelConfig::load(model_root / module.path);
  modules.pooling = read_modes(config);
  if (modules.pooling.empty()) {
    config.refuse("pooling_mode_mean_tokens", "no pooling mode is on");
  }
  const auto dimension = config.find_integer("embedding_dimension");
  modules.word_embedding_dimension = dimension ? config.dimension("embedding_dimension")
                                               : config.dimension("word_embedding_dimension");
  if (!config.boolean("include_prompt", true)) {
    config.refuse("include_prompt",
                  "leaving the prompt out of the pooling needs its length, which is no input of an "
                  "export; ask for the task feature-extraction and pool outside");
  }
  check_all_read(config, module.path);
}

SentenceDense read_dense(const fs::path& model_root, const Module& module) {
  const ModelConfig config = ModelConfig::load(model_root / module.path);
  const std::string activation =
      config.text("activation_function", "torch.nn.modules.activation.Tanh");
  SentenceDense dense{.directory = model_root / module.path,
                      .name = module.path,
                      .in_features = config.dimension("in_features"),
                      .out_features = config.dimension("out_features"),
                      .has_bias = config.boolean("bias", true),
                      .activation = activation.substr(activation.rfind('.') + 1)};
  if (!activation.starts_with("torch.nn.")) {
    config.refuse("activation_function", "only activations of torch.nn are implemented");
  }
  if (config.boolean("use_residual", false)) {
    config.refuse("use_residual", "a residual connection is not implemented");
  }
  check_in_and_out(config);
  check_all_read(config, module.path);
  return dense;
}

SentenceNormalize read_normalize(const fs::path& model_root, const Module& module) {
  std::error_code error;
  if (!module.path.empty() && fs::exists(model_root / module.path / kConfigFile, error)) {
    const ModelConfig config = ModelConfig::load(model_root / module.path);
    check_in_and_out(config);
    check_all_read(config, module.path);
  }
  return {};
}

/// Most of it is about the tokenizer; version 6 can choose another class or output.
void check_transformer(const fs::path& model_root) {
  std::error_code error;
  const fs::path path = model_root / kTransformerConfig;
  if (!fs::exists(path, error)) {
    return;
  }
  const ModelConfig config = ModelConfig::parse(read_file(path));
  if (config.text("transformer_task", "feature-extraction") != "feature-extraction") {
    refuse(
        fmt::format("{} has another transformer_task than feature-extraction", kTransformerConfig));
  }
  if (config.text("module_output_name", "token_embeddings") != "token_embeddings") {
    refuse(
        fmt::format("{} has another module_output_name than token_embeddings", kTransformerConfig));
  }
}

}  // namespace

bool has_sentence_modules(const fs::path& model_root) {
  std::error_code error;
  return fs::is_regular_file(model_root / kModulesFile, error);
}

SentenceModules load_sentence_modules(const fs::path& model_root) {
  const std::vector<Module> listed = read_modules(model_root);
  if (listed.front().kind != ModuleKind::kTransformer || !listed.front().path.empty()) {
    refuse(
        "does not begin with a Transformer at the model's root (path \"\"); load the model and "
        "save "
        "it again with sentence-transformers 2 or newer");
  }
  if (listed.size() < 2 || listed[1].kind != ModuleKind::kPooling) {
    refuse("has no Pooling behind its Transformer");
  }
  check_transformer(model_root);
  SentenceModules modules;
  read_pooling(model_root, listed[1], modules);
  for (std::size_t i = 2; i < listed.size(); ++i) {
    switch (listed[i].kind) {
      case ModuleKind::kDense:
        modules.after_pooling.emplace_back(read_dense(model_root, listed[i]));
        break;
      case ModuleKind::kNormalize:
        modules.after_pooling.emplace_back(read_normalize(model_root, listed[i]));
        break;
      default:
        refuse("has a Transformer or Pooling behind its Pooling");
    }
  }
  return modules;
}

}  // namespace onnxferry
