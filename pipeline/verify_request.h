#pragma once

#include <filesystem>
#include <string>

#include "pipeline/checkpoint/model_config.h"
#include "pipeline/verify/verify.h"

namespace onnxferry {

/// What the checks need to know of a model's inputs, from its config.json. `task` may be empty when
/// it is not known. Files, level, device and tolerances are left to the caller.
VerifyRequest describe_model(const ModelConfig& config, const std::string& task);

/// The request for an exported directory, ours or another exporter's: all its .onnx files, and what
/// its config.json says.
/// \throws Error{kVerificationFailed} naming what Optimum would miss
VerifyRequest describe_directory(const std::filesystem::path& directory);

}  // namespace onnxferry
