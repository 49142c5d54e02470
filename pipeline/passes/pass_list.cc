#include "pipeline/passes/pass_list.h"

#include "pipeline/passes/float16.h"

namespace onnxferry {

void run_passes(GraphModel& model, const ExportOptions& options) {
  // Half precision comes last: it decides per initializer, so every initializer must be there.
  if (options.dtype == FloatDtype::kFp16) {
    convert_to_float16(model);
  }
}

}  // namespace onnxferry
