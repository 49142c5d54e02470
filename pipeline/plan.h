#pragma once

#include <filesystem>
#include <vector>

#include "pipeline/output/writer.h"
#include "pipeline/source.h"
#include "pipeline/verify/verify.h"

namespace onnxferry {

/// What will be written: names, inputs, outputs, sizes and offsets of every file are fixed.
struct ExportPlan {
  std::vector<PlannedFile> files;
  ExportReport report;  ///< model type, task, ports, parameters and warnings are filled in
  VerifyRequest verify;
  /// Of the planned files together.
  [[nodiscard]] std::uint64_t bytes() const;
};

/// Build the graphs of the task, check that nothing of the checkpoint is left unread, run the
/// passes, lay out the files. Reads no weight. \throws Error{kUnsupportedModel, kCorruptCheckpoint,
/// kInvalidRequest}
ExportPlan plan_export(const Checkpoint& checkpoint, const ExportOptions& options);

/// Write the planned files and everything that goes beside them: the only pass over the weights.
ExportReport write_export(ExportPlan& plan,
                          const Checkpoint& checkpoint,
                          const ExportOptions& options,
                          const std::filesystem::path& directory,
                          StageScope& scope);

}  // namespace onnxferry
