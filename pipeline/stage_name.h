#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace onnxferry {

/// The stages of a job as users see them in replies, logs and metrics.
enum class Stage : std::uint8_t { kDownload, kExtract, kExport, kVerify, kUpload };

inline constexpr std::array<std::string_view, 5> kStageNames = {
    "download", "extract", "export", "verify", "upload"};

constexpr std::string_view to_string(Stage stage) {
  return kStageNames[static_cast<std::size_t>(stage)];
}

constexpr std::optional<Stage> find_stage(std::string_view name) {
  for (std::size_t i = 0; i < kStageNames.size(); ++i) {
    if (kStageNames[i] == name) {
      return static_cast<Stage>(i);
    }
  }
  return std::nullopt;
}

}  // namespace onnxferry
