#pragma once

#include <filesystem>
#include <optional>

#include "pipeline/archive/archive.h"
#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/checkpoint/model_config.h"
#include "pipeline/options.h"
#include "pipeline/output/publish.h"
#include "pipeline/run.h"
#include "pipeline/weights_cache.h"

namespace onnxferry {

/// Where the checkpoint comes from, on local disk.
struct LocalSource {
  enum class Kind : std::uint8_t {
    kDownloaded,  ///< an archive in our scratch directory
    kArchive,     ///< an archive file that belongs to the user
    kDirectory,   ///< a model directory that belongs to the user
    kCached,      ///< a checkpoint that an earlier job unpacked
  };
  Kind kind = Kind::kDownloaded;
  std::filesystem::path path;
  std::optional<WeightsCache::Lease> lease = std::nullopt;  ///< with kCached
};

/// Which bytes `options.source_uri` names right now, without reading them.
/// \throws Error{kSourceNotFound}
SourceIdentity identify_source(const ExportOptions& options, Stores& stores, StageScope& scope);

/// Bring the source to local disk, or find it in the cache. Local files and directories stay where
/// they are.
/// \throws Error{kUnavailable} when the object was replaced since it was identified;
///         Error{kResourceExhausted} when archive and weights together do not fit on the disk
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

/// Delete weights that we unpacked, those in the cache too; what belongs to the user stays.
void discard_weights(const LocalSource& local,
                     const Checkpoint& checkpoint,
                     const SourceIdentity& source,
                     const Workspace& workspace);

/// Give what we unpacked to the cache, if there is one. The checkpoint must not be read any more.
void keep_weights(const LocalSource& local,
                  const Checkpoint& checkpoint,
                  const SourceIdentity& source,
                  const Workspace& workspace);

/// \throws Error{kResourceExhausted} when the scratch disk has not `bytes` free even after the
///         cache made room; `purpose` says for what
void require_scratch(const Workspace& workspace, std::uint64_t bytes, std::string_view purpose);

}  // namespace onnxferry
