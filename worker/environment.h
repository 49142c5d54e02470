#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace onnxferry {

/// A variable of this process's environment. The one place that reads it: pipeline/ gets this
/// function handed in (EnvironmentLookup). Thread: any, as nothing in this program changes it.
std::optional<std::string> process_environment(std::string_view name);

}  // namespace onnxferry
