#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/options.h"
#include "pipeline/report.h"
#include "pipeline/storage/object_store.h"

namespace onnxferry {

/// What the bytes of an export were made from.
struct SourceIdentity {
  std::string uri;  ///< secrets masked
  ObjectInfo info;
};

/// sha256 over the source's identity and the canonical options: equal keys mean equal exports.
std::string export_key(const SourceIdentity& source, const ExportOptions& options);

/// Puts one export at its destination so that readers see all of it or nothing:
///
///   claim (If-None-Match: *) → ONNX files → sidecars → config.json → SHA256SUMS → manifest
///   (If-None-Match: *) → claim removed
///
/// An export exists once its manifest does. Usage: `find_published` before any work, `publish` at
/// the end.
class Publisher {
 public:
  Publisher(ObjectStore& store, const ObjectUri& destination, const ExportOptions& options);

  /// The finished export of the same request or the same key, if the destination holds one.
  /// \throws Error{kDestinationConflict} if it holds another one and `overwrite` is not set
  std::optional<ExportReport> find_published(const SourceIdentity& source, StageScope& scope);

  /// Upload the files of `directory` that `report` names, then make them visible.
  /// Fills `report.output_uri`, `.manifest_uri`, `.manifest_sha256` and appends the files made
  /// here.
  /// When another job of the same request or key has finished meanwhile, `report` becomes its.
  /// \throws Error{kDestinationConflict} if another request claimed or finished the destination
  /// meanwhile
  void publish(const std::filesystem::path& directory,
               const SourceIdentity& source,
               ExportReport& report,
               StageScope& scope);

 private:
  struct Manifest;
  std::optional<Manifest> read_manifest(StageScope& scope);
  /// kShared: a claim of the same request from another record, whose job may be at work right now.
  enum class ClaimOwner : std::uint8_t { kThisJob, kShared };
  ClaimOwner claim(const std::filesystem::path& directory, ExportReport& report, StageScope& scope);
  void remove_left_claim(StageScope& scope);
  void adopt_timestamp(const std::string& timestamp,
                       const std::filesystem::path& directory,
                       ExportReport& report);
  void upload_all(const std::filesystem::path& directory,
                  const SourceIdentity& source,
                  ExportReport& report,
                  StageScope& scope);
  void upload_files(const std::filesystem::path& directory,
                    const std::vector<FileReport>& files,
                    StageScope& scope);
  void withdraw(Stage stage) noexcept;
  void remove_replaced_export(StageScope& scope);
  [[noreturn]] void throw_conflict(std::string_view what, std::string_view owner) const;
  [[nodiscard]] std::string key(std::string_view name) const;

  ObjectStore& store_;
  ObjectUri destination_;
  ExportOptions options_;  ///< the timestamp may become that of a shared claim
  std::string export_key_;
};

}  // namespace onnxferry
