#include <algorithm>
#include <system_error>

#include <fmt/format.h>

#include "pipeline/archive/archive.h"
#include "pipeline/archive/selection.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

// A model may lie one level down and have subdirectories of its own (1_Pooling/). Someone's home
// directory has many more.
constexpr std::size_t kMaxDepth = 3;
constexpr std::size_t kMaxFiles = 10'000;

class DirectoryListing {
 public:
  explicit DirectoryListing(const fs::path& root) : root_(root) { list(root, "", 1); }

  ExtractedArchive take() { return std::move(result_); }

 private:
  void list(const fs::path& directory, const std::string& prefix, std::size_t depth) {
    for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with('.')) {
        continue;
      }
      const std::string path = prefix + name;
      // Links to directories are not followed: they can form loops.
      if (entry.is_directory() && !entry.is_symlink()) {
        if (depth < kMaxDepth && name != "onnx" && name != "__pycache__") {
          list(entry.path(), path + "/", depth + 1);
        }
        continue;
      }
      add(entry, path);
    }
  }

  void add(const fs::directory_entry& entry, const std::string& path) {
    std::error_code broken_link;
    if (!entry.is_regular_file(broken_link)) {
      return;
    }
    const FileUse use = use_of(path);
    const bool is_wanted = use == FileUse::kWeights || use == FileUse::kTorch ||
                           use == FileUse::kMetadata ||
                           (use == FileUse::kSidecar && entry.file_size() <= kMaxSidecarBytes);
    (is_wanted ? result_.files : result_.skipped).push_back(path);
    if (result_.files.size() + result_.skipped.size() > kMaxFiles) {
      throw Error(ErrorCode::kLimitExceeded,
                  fmt::format("{} holds more than {} files; give the model's own directory",
                              root_.string(),
                              kMaxFiles),
                  root_.string());
    }
  }

  fs::path root_;
  ExtractedArchive result_;
};

}  // namespace

ExtractedArchive open_directory(const fs::path& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    throw Error(
        ErrorCode::kSourceNotFound,
        fmt::format(
            "{} is no directory{}", directory.string(), error ? ": " + error.message() : ""),
        directory.string());
  }
  try {
    ExtractedArchive result = DirectoryListing(directory).take();
    const std::string root = find_model_root(result.files, result.skipped);
    keep_model_files(root, result.files, result.skipped);
    result.model_root = root.empty() ? directory : directory / root;
    return result;
  } catch (const fs::filesystem_error& failure) {
    const bool is_denied = failure.code() == std::errc::permission_denied;
    throw Error(
        is_denied ? ErrorCode::kPermissionDenied : ErrorCode::kSourceNotFound,
        fmt::format("{} cannot be listed: {}", failure.path1().string(), failure.code().message()),
        failure.path1().string());
  }
}

}  // namespace onnxferry
