#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "pipeline/output/publish.h"

namespace onnxferry {

/// Unpacked checkpoints that outlive their job (`keep_weights`), so that the next export of the
/// same object skips download and extraction. Bounded; the least recently used go first.
///
/// An entry is a directory `<sha256 of store and identity>.<bytes>`, moved in complete. Whoever
/// reads one holds a shared lock on it, so processes of a host may share the cache. It only ever
/// saves time: whatever goes wrong here, the job goes on without it.
/// Whether a request may read the object is not the cache's business: ask the store first.
class WeightsCache {
 public:
  /// \param directory  on the same file system as the jobs' scratch; made when first needed
  /// \param max_bytes  of all entries together
  /// \param store      which store the objects are in (its endpoint): part of the identity
  WeightsCache(std::filesystem::path directory, std::uint64_t max_bytes, std::string store);

  /// A checkpoint that stays as long as the lease lives.
  class Lease {
   public:
    Lease(std::filesystem::path path, int lock) : path_(std::move(path)), lock_(lock) {}
    ~Lease();
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&&) = delete;
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    /// The model's root, to be read only.
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

   private:
    std::filesystem::path path_;
    int lock_;
  };
  [[nodiscard]] std::optional<Lease> find(const SourceIdentity& source);

  /// Move `directory` (nobody may use it any more) in, and others out if that is needed. Does
  /// nothing when it is larger than the whole cache or is there already.
  void keep(const SourceIdentity& source, const std::filesystem::path& directory);

  /// Remove the entry unless a job reads it.
  void forget(const SourceIdentity& source);

  /// Remove what no job reads until the disk has `bytes` free or nothing is left to remove.
  void make_room(std::uint64_t bytes);

 private:
  [[nodiscard]] std::string key(const SourceIdentity& source) const;

  std::filesystem::path directory_;
  std::uint64_t max_bytes_;
  std::string store_;
};

}  // namespace onnxferry
