#pragma once

#include <filesystem>
#include <string>

#include "pipeline/archive/archive.h"
#include "pipeline/options.h"
#include "pipeline/report.h"
#include "pipeline/storage/object_store.h"

namespace onnxferry {

class OnnxRuntime;
class WeightsCache;

/// The private place of one job: scratch directory and what the host offers.
struct Workspace {
  std::filesystem::path scratch;  ///< existing, empty, mode 0700; the caller removes it
  ArchiveLimits limits;
  OnnxRuntime* runtime = nullptr;  ///< null: verification above `structure` is not available
  WeightsCache* cache = nullptr;   ///< null: unpacked weights end with the job
};

/// Run one export from source to published destination.
///
/// \return what was published; `answered_from_manifest` when the destination already holds this
/// export
/// \throws Error with its stage set; the destination then holds no manifest of this job
/// Thread: the calling thread leads; transfers and writing use threads of their own.
ExportReport run_export(const ExportOptions& options,
                        Stores& stores,
                        Workspace& workspace,
                        StageObserver& observer);

}  // namespace onnxferry
