#pragma once

#include <string_view>

namespace onnxferry {

/// End this process with SIGKILL when the environment variable ONNXFERRY_FAILPOINT has this name.
/// The kill tests use it to die at exactly one place; README.md lists the names. Without the
/// variable it costs a comparison. Thread: any.
void failpoint(std::string_view name);

/// Whether the failpoint would fire, for what a test needs to have happened before it.
bool is_failpoint(std::string_view name);

}  // namespace onnxferry
