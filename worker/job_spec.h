#pragma once

#include "onnxferry/v1/job.pb.h"
#include "pipeline/archive/archive.h"
#include "pipeline/storage/store_config.h"

namespace onnxferry {

/// What a job child is told, as messages and back. Every field is carried: a test walks the
/// messages and fails when one is forgotten.
v1::StoreSettings to_message(const StoreConfig& config);
StoreConfig to_store_config(const v1::StoreSettings& settings);

v1::ArchiveBounds to_message(const ArchiveLimits& limits);
ArchiveLimits to_archive_limits(const v1::ArchiveBounds& bounds);

}  // namespace onnxferry
