#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "pipeline/stage.h"
#include "pipeline/verify/verify.h"

namespace onnxferry {

/// Shows a local job on stderr: a progress bar on a terminal, one line per finished stage
/// elsewhere. SIGINT and SIGTERM cancel the job once an instance exists.
std::unique_ptr<StageObserver> make_console_observer();

/// A private directory that is removed with its contents at the end.
class ScratchDirectory {
 public:
  /// Make one inside `parent`, which is created if it is missing.
  explicit ScratchDirectory(const std::filesystem::path& parent);
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// ONNX Runtime for a level that the user asked for, or for the default level if there is a
/// library.
struct RuntimeChoice {
  std::shared_ptr<OnnxRuntime> runtime;  ///< null: none needed, or none found for a default level
  VerifyLevel level = VerifyLevel::kLoad;
  std::string note;  ///< why the default level is lower than usual; empty otherwise
};

/// \param asked    empty: the default, `load` where ONNX Runtime is found and `structure` elsewhere
/// \param library  empty: $ONNXFERRY_ONNXRUNTIME, else searched for
/// \throws Error{kInvalidRequest} for an unknown level; Error{kUnsupportedOption} when an asked
/// level
///         needs a library that is not there
RuntimeChoice choose_runtime(const std::string& asked, const std::string& library);

/// "1.98 GB": sizes for people.
std::string human_bytes(std::uint64_t bytes);

}  // namespace onnxferry
