#include "pipeline/output/sidecars.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <span>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "pipeline/output/disk_file.h"
#include "pipeline/output/layout.h"
#include "pipeline/output/sha256.h"
#include "pipeline/storage/object_store.h"
#include "pipeline/version.h"

namespace onnxferry {
namespace {

using Json = nlohmann::ordered_json;

// Attributes of GenerationConfig that old config.json files carry. Source:
// transformers/generation/configuration_utils.py.
constexpr std::size_t kCopyBytes = std::size_t{1} << 20U;

constexpr std::array<std::string_view, 38> kGenerationKeys = {"bad_words_ids",
                                                              "begin_suppress_tokens",
                                                              "bos_token_id",
                                                              "cache_implementation",
                                                              "constraints",
                                                              "decoder_start_token_id",
                                                              "diversity_penalty",
                                                              "do_sample",
                                                              "early_stopping",
                                                              "encoder_no_repeat_ngram_size",
                                                              "encoder_repetition_penalty",
                                                              "eos_token_id",
                                                              "epsilon_cutoff",
                                                              "eta_cutoff",
                                                              "exponential_decay_length_penalty",
                                                              "forced_bos_token_id",
                                                              "forced_eos_token_id",
                                                              "guidance_scale",
                                                              "length_penalty",
                                                              "low_memory",
                                                              "max_length",
                                                              "max_new_tokens",
                                                              "max_time",
                                                              "min_length",
                                                              "min_new_tokens",
                                                              "no_repeat_ngram_size",
                                                              "num_beam_groups",
                                                              "num_beams",
                                                              "num_return_sequences",
                                                              "pad_token_id",
                                                              "penalty_alpha",
                                                              "repetition_penalty",
                                                              "sequence_bias",
                                                              "suppress_tokens",
                                                              "temperature",
                                                              "top_k",
                                                              "top_p",
                                                              "typical_p"};

/// A module of sentence-transformers keeps its small safetensors (2_Dense), without which that
/// library would not load the directory; pickles are never handed on.
bool is_weight_name(const std::string& name) {
  constexpr std::array<std::string_view, 4> kSuffixes = {
      ".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json"};
  if (name.find('/') != std::string::npos) {
    return name.ends_with(".bin");
  }
  return std::ranges::any_of(kSuffixes,
                             [&](std::string_view suffix) { return name.ends_with(suffix); });
}

std::string kind_of(const std::string& name) {
  constexpr std::array<std::string_view, 10> kTokenizerParts = {"tokenizer",
                                                                "vocab",
                                                                "merges.txt",
                                                                "special_tokens_map",
                                                                "added_tokens",
                                                                "chat_template",
                                                                "spiece",
                                                                "sentencepiece",
                                                                "bpe",
                                                                ".tiktoken"};
  if (name == kConfigName || name == kGenerationConfigName) {
    return "config";
  }
  const bool is_tokenizer = std::ranges::any_of(
      kTokenizerParts, [&](std::string_view part) { return name.find(part) != std::string::npos; });
  return is_tokenizer ? "tokenizer" : "sidecar";
}

[[noreturn]] void throw_copy_failed(const std::string& name, std::string_view reason) {
  throw Error(
      ErrorCode::kConfigCopyFailed,
      fmt::format("{} could not be copied: {}; without it the export would not load with Optimum",
                  name,
                  reason),
      name);
}

/// A full disk is the host's matter and may pass; anything else would fail again.
[[noreturn]] void throw_write_failed(const std::string& name, const std::error_code& error) {
  if (error == std::errc::no_space_on_device || error == std::errc::file_too_large ||
      error.value() == EDQUOT) {
    throw Error(ErrorCode::kResourceExhausted,
                fmt::format("the disk is full: {} could not be written ({}); give the scratch "
                            "directory more space",
                            name,
                            error.message()),
                name);
  }
  throw_copy_failed(name, error.message());
}

FileReport write_text(const std::filesystem::path& directory,
                      std::string_view name,
                      const std::string& text,
                      std::string kind) {
  errno = 0;
  std::ofstream file(directory / name, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) {
    throw_write_failed(std::string(name), {errno, std::generic_category()});
  }
  return {.name = std::string(name),
          .bytes = text.size(),
          .sha256 = sha256_hex(text),
          .kind = std::move(kind)};
}

/// Not std::filesystem::copy_file: on a disk that fills up on the way libstdc++ says "Input/output
/// error".
void copy_bytes(const std::filesystem::path& from, const std::filesystem::path& to) {
  const DiskFile source(from, O_RDONLY);
  DiskFile copy(to, O_WRONLY | O_CREAT | O_TRUNC);
  std::vector<std::byte> buffer(kCopyBytes);
  while (const std::size_t count = source.read(buffer)) {
    copy.write(std::span(buffer).first(count));
  }
  copy.set_mode(0644);
  copy.close();
}

FileReport copy_one(const std::filesystem::path& from,
                    const std::filesystem::path& directory,
                    const std::string& name) {
  const auto to = directory / name;
  try {
    std::filesystem::create_directories(to.parent_path());
    copy_bytes(from, to);
  } catch (const std::filesystem::filesystem_error& error) {
    throw_write_failed(name, error.code());
  }
  FileReport report = hash_file(to);
  report.name = name;
  report.kind = kind_of(name);
  return report;
}

}  // namespace

std::string synthesize_generation_config(std::string_view config_json) {
  const auto config = nlohmann::json::parse(config_json);
  Json result = {{"_from_model_config", true}};
  for (const std::string_view key : kGenerationKeys) {
    const auto it = config.find(key);
    if (it != config.end() && !it->is_null()) {
      result[std::string(key)] = *it;
    }
  }
  const auto written_by = config.find("transformers_version");
  if (written_by != config.end()) {
    result["transformers_version"] = *written_by;
  }
  return result.dump(2) + "\n";
}

std::vector<FileReport> copy_sidecars(const SidecarRequest& request,
                                      const std::filesystem::path& directory,
                                      StageScope& scope) {
  std::vector<FileReport> reports;
  for (const std::string& name : request.files) {
    const bool is_weights = is_weight_name(name) || std::ranges::find(request.weight_files, name) !=
                                                        request.weight_files.end();
    // Files of ours in the source (an earlier export) would shadow the new ones.
    const bool is_ours = name == kManifestName || name == kChecksumsName || name == kMetadataName ||
                         name == kClaimName;
    if (is_weights || is_ours || name == kConfigName) {
      continue;
    }
    reports.push_back(copy_one(request.model_root / name, directory, name));
    scope.add_bytes(reports.back().bytes);
  }
  const auto has = [&](std::string_view name) {
    return std::ranges::find(reports, name, &FileReport::name) != reports.end();
  };
  if (request.is_generating && !has(kGenerationConfigName)) {
    std::ifstream file(request.model_root / kConfigName, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    reports.push_back(
        write_text(directory, kGenerationConfigName, synthesize_generation_config(text), "config"));
  }
  reports.push_back(
      copy_one(request.model_root / kConfigName, directory, std::string(kConfigName)));
  return reports;
}

namespace {

/// A presigned URL is a secret and differs from one request to the next; the bytes of an export do
/// not.
std::string shown_source(const ExportOptions& options) {
  const ObjectUri uri = ObjectUri::parse(options.source_uri);
  return uri.scheme == ObjectUri::Scheme::kWeb ? uri.to_string() : options.source_uri;
}

}  // namespace

FileReport write_export_metadata(const ExportOptions& options,
                                 const std::string& model_type,
                                 const std::string& task,
                                 const std::filesystem::path& directory) {
  const Json metadata = {
      {"source_model", options.model_id.empty() ? shown_source(options) : options.model_id},
      {"export_strategy", options.export_strategy},
      {"clean_onnx", options.clean_onnx},
      {"export_timestamp", options.export_timestamp},
      {"modelexport_version", version()},
      {"exporter", "onnxferry"},
      {"model_type", model_type},
      {"task", task},
      {"dtype", to_string(options.dtype)},
      {"opset", options.opset},
  };
  return write_text(directory, kMetadataName, metadata.dump(2) + "\n", "metadata");
}

}  // namespace onnxferry
