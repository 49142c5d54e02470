#pragma once

#include <string>
#include <string_view>

namespace onnxferry {

// Every name in an output directory that is ours to choose. Files of the graphs ("model.onnx") are
// named by the architectures, sidecars by the checkpoint.

inline constexpr std::string_view kClaimName = ".onnxferry-claim";
inline constexpr std::string_view kManifestName = "export_manifest.json";
inline constexpr std::string_view kChecksumsName = "SHA256SUMS";
inline constexpr std::string_view kMetadataName = "export_metadata.json";
inline constexpr std::string_view kConfigName = "config.json";
inline constexpr std::string_view kGenerationConfigName = "generation_config.json";

/// The external data of an ONNX file, the name that Optimum and Transformers.js look up.
inline std::string external_data_name(std::string_view onnx_name) {
  return std::string(onnx_name).append("_data");
}

}  // namespace onnxferry
