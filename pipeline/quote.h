#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace onnxferry {

/// Names of files, tensors and keys come from strangers: quoted, control characters escaped and
/// bounded before they enter a message or a log line.
inline std::string quote(std::string_view text, std::size_t max_shown = 120) {
  if (text.size() <= max_shown) {
    return fmt::format("{:?}", text);
  }
  return fmt::format("{:?}...", text.substr(0, max_shown));
}

}  // namespace onnxferry
