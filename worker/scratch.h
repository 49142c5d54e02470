#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace onnxferry {

/// The scratch root, shared by all workers of a host, and this process's slot in it.
///
/// `slot-<n>.lock` is locked by its owner for life; `slot-<n>-job-<k>/` are the owner's job
/// directories.
/// The constructor takes the first free slot and removes what owners left that are gone: the lock
/// of a dead process is free, whatever killed it.
/// Thread: one.
class Scratch {
 public:
  /// \throws Error{kResourceExhausted} when the root cannot be made or written
  explicit Scratch(std::filesystem::path root);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// Small number, unique among the live processes that share the root.
  [[nodiscard]] int slot() const { return slot_; }

  /// A new empty directory of mode 0700.
  std::filesystem::path make_job_directory();
  void remove_job_directory(const std::filesystem::path& directory);

  /// Free bytes for this user; 0 when the directory cannot be used.
  [[nodiscard]] std::uint64_t free_bytes() const;

 private:
  std::filesystem::path root_;
  int slot_ = -1;
  int lock_ = -1;
  std::uint64_t next_job_ = 0;
};

}  // namespace onnxferry
