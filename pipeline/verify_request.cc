#include "pipeline/verify_request.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/architectures/registry.h"
#include "pipeline/error.h"
#include "pipeline/output/layout.h"

namespace onnxferry {

namespace {

std::int64_t first_integer(const ModelConfig& config,
                           std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (const auto value = config.find_integer(key)) {
      return *value;
    }
  }
  return 0;
}

// For sizes of generated inputs: config.json may be anybody's.
std::int64_t bounded(const ModelConfig& config, std::string_view key, std::int64_t when_absent) {
  constexpr std::int64_t kLargest = 65536;
  return std::clamp<std::int64_t>(config.integer(key, when_absent), 1, kLargest);
}

}  // namespace

VerifyRequest describe_model(const ModelConfig& config, const std::string& task) {
  VerifyRequest request;
  // GPT-2, MPT and XLM have names of their own; multimodal models nest those of their text part.
  request.vocab_size = first_integer(config, {"n_words", "vocab_size", "text_config.vocab_size"});
  request.max_positions = first_integer(config,
                                        {"max_position_embeddings",
                                         "n_positions",
                                         "max_seq_len",
                                         "text_config.max_position_embeddings"});
  request.type_vocab_size = config.integer("type_vocab_size", 2);
  request.xpath = {.max_depth = bounded(config, "max_depth", 50),
                   .tags = bounded(config, "max_xpath_tag_unit_embeddings", 256),
                   .subscripts = bounded(config, "max_xpath_subs_unit_embeddings", 1024)};
  request.pad_token_id = config.find_integer("pad_token_id");
  request.causal = task.empty() ? config.architecture_class().ends_with("ForCausalLM")
                                : task.starts_with("text-generation");
  const std::string model_type = config.model_type();
  const auto known = std::ranges::find(
      architectures(), model_type, [](const Architecture* entry) { return entry->model_type; });
  if (known != architectures().end()) {
    const auto tasks = (*known)->tasks_that_see_padding;
    request.sees_padding =
        task.empty() ? !tasks.empty() : std::ranges::find(tasks, task) != tasks.end();
  }
  return request;
}

VerifyRequest describe_directory(const std::filesystem::path& directory) {
  std::vector<std::string> onnx_files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.path().extension() == ".onnx") {
      onnx_files.push_back(std::filesystem::relative(entry.path(), directory).string());
    }
  }
  std::ranges::sort(onnx_files);
  std::vector<std::string_view> missing;
  if (onnx_files.empty()) {
    missing.emplace_back("model.onnx (there is no .onnx file at all)");
  }
  if (!std::filesystem::exists(directory / kConfigName)) {
    missing.emplace_back(kConfigName);
  }
  if (!missing.empty()) {
    throw Error(
        ErrorCode::kVerificationFailed,
        fmt::format(
            "{} lacks {}; Optimum cannot load it", directory.string(), fmt::join(missing, " and ")),
        directory.string());
  }
  VerifyRequest request = describe_model(ModelConfig::load(directory), "");
  request.directory = directory;
  request.onnx_files = std::move(onnx_files);
  return request;
}

}  // namespace onnxferry
