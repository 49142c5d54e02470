#include "pipeline/source.h"

#include <fmt/format.h>

#include "pipeline/output/sha256.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

bool is_local_directory(const ObjectUri& uri) {
  std::error_code missing;
  return uri.scheme == ObjectUri::Scheme::kFile && std::filesystem::is_directory(uri.key, missing);
}

/// A directory has no ETag: names, sizes and modification times of its files stand in for one.
ObjectInfo identify_directory(const std::filesystem::path& directory) {
  ObjectInfo info;
  std::string listing;
  for (const std::string& name : open_directory(directory).files) {
    const auto path = directory / name;
    const auto bytes = std::filesystem::file_size(path);
    const auto modified = std::filesystem::last_write_time(path).time_since_epoch().count();
    listing += fmt::format("{}\n{}\n{}\n", name, bytes, modified);
    info.bytes += bytes;
  }
  info.etag = sha256_hex(listing);
  return info;
}

bool is_unpacked_here(const LocalSource& local) {
  return local.kind == LocalSource::Kind::kDownloaded || local.kind == LocalSource::Kind::kArchive;
}

}  // namespace

SourceIdentity identify_source(const ExportOptions& options, Stores& stores, StageScope& scope) {
  const ObjectUri uri = ObjectUri::parse(options.source_uri);
  // Without the query of a presigned URL: it is a secret, and not what names the object.
  const std::string shown =
      uri.scheme == ObjectUri::Scheme::kWeb ? uri.to_string() : mask_secrets(options.source_uri);
  ObjectStore& store = stores.open(uri);  // checks the allow-lists for local paths, too
  if (is_local_directory(uri)) {
    return {shown, identify_directory(uri.key)};
  }
  const auto info = store.head(uri.key, scope);
  if (!info) {
    throw Error(
        ErrorCode::kSourceNotFound,
        fmt::format("{} does not exist; check bucket, key and that the upload has finished", shown),
        shown);
  }
  return {shown, *info};
}

LocalSource fetch_source(const ExportOptions& options,
                         Stores& stores,
                         const SourceIdentity& source,
                         const Workspace& workspace,
                         StageScope& scope) {
  const ObjectUri uri = ObjectUri::parse(options.source_uri);
  if (is_local_directory(uri)) {
    return {LocalSource::Kind::kDirectory, uri.key};
  }
  if (workspace.cache != nullptr && options.keep_weights) {
    if (auto lease = workspace.cache->find(source)) {
      const std::filesystem::path path = lease->path();
      return {LocalSource::Kind::kCached, path, std::move(lease)};
    }
  }
  if (uri.scheme == ObjectUri::Scheme::kFile) {
    require_scratch(workspace, source.info.bytes, "the weights");
    return {LocalSource::Kind::kArchive, uri.key};
  }
  // The archive goes once it is unpacked, but until then both are there.
  require_scratch(workspace, 2 * source.info.bytes, "the archive and its weights");
  scope.set_total(source.info.bytes);
  const auto path = workspace.scratch / "archive";
  const ObjectInfo fetched = stores.open(uri).download(uri.key, path, scope);
  if (fetched.etag != source.info.etag || fetched.bytes != source.info.bytes) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("{} was replaced while the job started", source.uri),
                source.uri);
  }
  return {LocalSource::Kind::kDownloaded, path};
}

Checkpoint open_checkpoint(const LocalSource& source,
                           const Workspace& workspace,
                           StageScope& scope) {
  ExtractedArchive files;
  if (source.kind == LocalSource::Kind::kDirectory || source.kind == LocalSource::Kind::kCached) {
    files = open_directory(source.path);
  } else {
    const auto into = workspace.scratch / "checkpoint";
    std::filesystem::create_directory(into);
    std::filesystem::permissions(into, std::filesystem::perms::owner_all);
    files = extract_archive(source.path, into, workspace.limits, scope);
  }
  if (source.kind == LocalSource::Kind::kDownloaded) {
    std::filesystem::remove(
        source.path);  // scratch holds archive and checkpoint no longer than it must
  }
  ModelConfig config = ModelConfig::load(files.model_root);
  WeightFiles tensors = WeightFiles::open(files.model_root);
  return {std::move(files), std::move(config), std::move(tensors)};
}

void discard_weights(const LocalSource& local,
                     const Checkpoint& checkpoint,
                     const SourceIdentity& source,
                     const Workspace& workspace) {
  if (is_unpacked_here(local)) {
    std::filesystem::remove_all(checkpoint.files.model_root);
  }
  if (workspace.cache != nullptr) {
    workspace.cache->forget(source);
  }
}

void keep_weights(const LocalSource& local,
                  const Checkpoint& checkpoint,
                  const SourceIdentity& source,
                  const Workspace& workspace) {
  if (workspace.cache != nullptr && is_unpacked_here(local)) {
    workspace.cache->keep(source, checkpoint.files.model_root);
  }
}

void require_scratch(const Workspace& workspace, std::uint64_t bytes, std::string_view purpose) {
  const auto available = [&workspace] {
    return std::filesystem::space(workspace.scratch).available;
  };
  if (available() < bytes && workspace.cache != nullptr) {
    workspace.cache->make_room(bytes);
  }
  if (const std::uintmax_t free = available(); free < bytes) {
    throw Error(ErrorCode::kResourceExhausted,
                fmt::format("the scratch disk has {} bytes free, {} need at least {}; give it more "
                            "room or run fewer jobs at a time",
                            free,
                            purpose,
                            bytes),
                workspace.scratch.string());
  }
}

}  // namespace onnxferry
