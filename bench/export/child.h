#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace onnxferry::bench {

struct ChildResult {
  double seconds = 0;
  double cpu_seconds = 0;                  ///< user and system
  std::uint64_t peak_anonymous_bytes = 0;  ///< largest RssAnon seen
  double first_output_seconds = 0;         ///< until `has_output` was first true; 0 if never
};

/// Run a program to its end; samples its memory and asks `has_output` every 5 ms.
///
/// \throws std::runtime_error if it cannot start or does not exit with 0
ChildResult run_child(const std::vector<std::string>& command,
                      const std::function<bool()>& has_output);

}  // namespace onnxferry::bench
