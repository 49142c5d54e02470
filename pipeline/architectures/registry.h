#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "pipeline/architectures/architecture.h"

namespace onnxferry {

/// All architectures, sorted by model_type.
std::span<const Architecture* const> architectures();

/// \throws Error{kUnsupportedModel} naming the nearest known model types
const Architecture& find_architecture(const ModelConfig& config);

/// The task to export: an explicit one (name or synonym, taken as it is) or, for "auto", the one
/// that the checkpoint's class stands for, with past where the architecture has it.
/// \throws Error{kInvalidRequest} unknown task name; Error{kUnsupportedModel} a task the
/// architecture lacks, or
///         no class to detect it from
std::string resolve_task(std::string_view requested,
                         const Architecture& architecture,
                         const ModelConfig& config);

/// Every checkpoint tensor must feed the graphs or match `ignored_tensors`.
/// \throws Error{kUnsupportedModel} naming the first tensors that nothing reads
void check_tensors_consumed(const Architecture& architecture,
                            const WeightFiles& tensors,
                            std::span<const BuiltGraph> graphs);

}  // namespace onnxferry
