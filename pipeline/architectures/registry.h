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

/// Which library a model directory is made for. Optimum looks at the same files.
enum class Library : std::uint8_t { kTransformers, kSentenceTransformers };

/// The task to export: an explicit one (name or synonym, taken as it is) or, for "auto", the one
/// that the checkpoint's class stands for, with past where the architecture has it. In a directory
/// of sentence-transformers "auto" is sentence-similarity; without its modules that task is another
/// name of feature-extraction, as in Optimum.
/// \throws Error{kInvalidRequest} unknown task name; Error{kUnsupportedModel} a task the
/// architecture lacks, or
///         no class to detect it from
std::string resolve_task(std::string_view requested,
                         const Architecture& architecture,
                         const ModelConfig& config,
                         Library library = Library::kTransformers);

/// Every checkpoint tensor must feed the graphs or match `ignored_tensors`.
/// \throws Error{kUnsupportedModel} naming the first tensors that nothing reads
void check_tensors_consumed(const Architecture& architecture,
                            const WeightFiles& tensors,
                            std::span<const BuiltGraph> graphs);

}  // namespace onnxferry
