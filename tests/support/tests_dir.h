#pragma once

#include <filesystem>

namespace onnxferry {

/// The folder tests/ of the sources that this build was configured from.
std::filesystem::path tests_dir();

}  // namespace onnxferry
