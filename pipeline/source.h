#pragma once

#include <filesystem>

#include "pipeline/archive/archive.h"
#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/checkpoint/model_config.h"
#include "pipeline/options.h"
#include "pipeline/output/publish.h"
#include "pipeline/run.h"

namespace onnxferry {

/// Where the checkpoint comes from, on local disk.
struct LocalSource {
  enum class Kind : std::uint8_t {
    kDownloaded,  ///< an archive in our scratch directory
    kArchive,     ///< an archive file that belongs to the user
    kDirectory,   ///< a model directory that belongs to the user
  };
  Kind kind = Kind::kDownloaded;
  std::filesystem::path path;
};

/// Which bytes `options.source_uri` names right now, without reading them.
/// \throws Error{kSourceNotFound}
SourceIdentity identify_source(const ExportOptions& options, Stores& stores, StageScope& scope);

/// Bring the source to local disk. Local files and directories stay where they are.
/// \throws Error{kUnavailable} when the object was replaced since it was identified
LocalSource fetch_source(const ExportOptions& options,
                         Stores& stores,
                         const SourceIdentity& source,
                         const Workspace& workspace,
                         StageScope& scope);

/// A checkpoint on disk: configuration and tensor headers are parsed, no weight has been read.
struct Checkpoint {
  ExtractedArchive files;
  ModelConfig config;
  WeightFiles tensors;
};

/// Unpack an archive (a downloaded one is deleted right after) and parse the headers.
Checkpoint open_checkpoint(const LocalSource& source,
                           const Workspace& workspace,
                           StageScope& scope);

/// Delete weights that we unpacked; what belongs to the user stays.
void discard_weights(const LocalSource& source, const Checkpoint& checkpoint);

}  // namespace onnxferry
