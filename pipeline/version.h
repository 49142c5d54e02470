#pragma once

#include <string_view>

namespace onnxferry {

/// "0.1.0": the project version, part of every manifest and of the onnx producer_version.
std::string_view version();

}  // namespace onnxferry
