#pragma once

#include "pipeline/graph/model.h"
#include "pipeline/options.h"

namespace onnxferry {

/// Run the passes that the options ask for, in their fixed order.
void run_passes(GraphModel& model, const ExportOptions& options);

}  // namespace onnxferry
