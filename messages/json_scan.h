#pragma once

#include <string_view>
#include <vector>

#include "onnxferry/v1/export.pb.h"

namespace onnxferry::messages {

inline constexpr std::size_t kMaxJsonDepth = 32;
inline constexpr std::size_t kMaxProblems =
    50;  ///< a hostile request does not get an endless reply

struct JsonScan {
  std::vector<v1::FieldProblem> problems;
  bool complete = false;  ///< the text is JSON within the bounds; a tree may be built from it
};

/// Find what a JSON tree can no longer show: syntax errors with their place, keys given twice,
/// nesting past kMaxJsonDepth. One pass without a tree; memory is bounded by the text.
JsonScan scan_json(std::string_view text);

v1::FieldProblem make_problem(std::string_view field, std::string_view text);

/// "verify" + "level" → "verify.level"; the root's path is "".
std::string join_path(std::string_view parent, std::string_view key);

}  // namespace onnxferry::messages
