#pragma once

#include <cstdint>
#include <filesystem>

#include "bench/export/model_shapes.h"

namespace onnxferry::bench {

/// Write config.json and model.safetensors of a model shape: small random values, or a hole.
///
/// \return bytes of model.safetensors
std::uint64_t write_checkpoint(const ModelShape& model, const std::filesystem::path& directory);

}  // namespace onnxferry::bench
