#pragma once

#include <vector>

#include "pipeline/error.h"

namespace onnxferry {

/// One Error for several problems of a request or configuration. Its message names the first few,
/// so that it alone does for someone who reads only a log; problems() has all of them.
/// \pre `problems` is not empty
Error make_problems_error(ErrorCode code, std::vector<FieldProblem> problems);

}  // namespace onnxferry
