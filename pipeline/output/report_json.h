#pragma once

#include <nlohmann/json_fwd.hpp>

#include "pipeline/report.h"

namespace onnxferry {

/// The `result` object of manifests, spelled like the reply's `result` (64-bit integers as strings,
/// as proto3's JSON mapping has them).
nlohmann::ordered_json report_to_json(const ExportReport& report);

/// The reverse; unknown keys are ignored, missing ones keep their defaults.
ExportReport report_from_json(const nlohmann::json& json);

}  // namespace onnxferry
