#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace onnxferry {

/// Every task name that Optimum knows, without "-with-past" variants.
std::span<const std::string_view> task_names();

/// Optimum's name for a task or one of its synonyms ("causal-lm" → "text-generation"), keeping a
/// "-with-past" suffix. nullopt for an unknown name.
std::optional<std::string> canonical_task(std::string_view name);

/// The known name with the smallest edit distance, for "did you mean"; empty when nothing is close.
std::string nearest_name(std::string_view name, std::span<const std::string_view> known);

}  // namespace onnxferry
