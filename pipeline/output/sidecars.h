#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pipeline/options.h"
#include "pipeline/report.h"
#include "pipeline/stage.h"

namespace onnxferry {

/// What goes beside the ONNX files.
struct SidecarRequest {
  std::filesystem::path model_root;       ///< the unpacked checkpoint
  std::vector<std::string> files;         ///< its files, relative
  std::vector<std::string> weight_files;  ///< base names that stay behind
  bool is_generating = false;             ///< a generating task needs generation_config.json
};

/// Copy every file that is not weights, byte for byte, and synthesise generation_config.json when a
/// generating model lacks one. `config.json` comes last in the result.
/// \throws Error{kConfigCopyFailed} naming the file
std::vector<FileReport> copy_sidecars(const SidecarRequest& request,
                                      const std::filesystem::path& directory,
                                      StageScope& scope);

/// The generation parameters of a config.json as a generation_config.json, as transformers'
/// GenerationConfig.from_model_config writes them.
std::string synthesize_generation_config(std::string_view config_json);

/// export_metadata.json: five keys in the order callers know, then ours. Deterministic: the time is
/// the request's.
FileReport write_export_metadata(const ExportOptions& options,
                                 const std::string& model_type,
                                 const std::string& task,
                                 const std::filesystem::path& directory);

}  // namespace onnxferry
