#include "pipeline/archive/selection.h"

#include <algorithm>
#include <array>
#include <iterator>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/archive/entry_name.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr std::string_view kConfig = "config.json";

// Formats that hold weights which are not read, programs (nothing from an archive is ever run, and
// models that need their own code are refused by config.json), and archives in the archive.
constexpr auto kSkippedExtensions = std::to_array<std::string_view>(
    {".bin",       ".pt",     ".pth",   ".ckpt", ".msgpack", ".h5",   ".gguf",
     ".ggml",      ".onnx",   ".ort",   ".npz",  ".npy",     ".pkl",  ".pickle",
     ".joblib",    ".tflite", ".pb",    ".ot",   ".mar",     ".nemo", ".engine",
     ".onnx_data", ".py",     ".pyc",   ".pyd",  ".so",      ".dll",  ".dylib",
     ".exe",       ".sh",     ".ipynb", ".tar",  ".gz",      ".tgz",  ".zip",
     ".zst",       ".xz",     ".bz2",   ".7z",   ".rar",     ".whl",  ".safetensors.tmp"});

constexpr auto kMetadataExtensions = std::to_array<std::string_view>({".json",
                                                                      ".txt",
                                                                      ".model",
                                                                      ".jinja",
                                                                      ".tiktoken",
                                                                      ".spm",
                                                                      ".md",
                                                                      ".yaml",
                                                                      ".yml",
                                                                      ".vocab",
                                                                      ".merges"});

constexpr auto kOtherWeights =
    std::to_array<std::string_view>({".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".gguf"});

constexpr std::string_view kModules = "modules.json";

template <std::size_t kCount>
bool ends_with_any(std::string_view name, const std::array<std::string_view, kCount>& endings) {
  return std::ranges::any_of(endings,
                             [&](std::string_view ending) { return name.ends_with(ending); });
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return lower;
}

bool is_torch_name(std::string_view name) {
  return name.starts_with("pytorch_model") && name.ends_with(".bin");
}

/// "" for a file at the top.
std::string_view parent_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

bool has_weights(std::string_view directory, const std::vector<std::string>& paths) {
  return std::ranges::any_of(paths, [&](const std::string& path) {
    return parent_of(path) == directory &&
           (path.ends_with(".safetensors") || ends_with_any(path, kOtherWeights));
  });
}

[[noreturn]] void fail_without_config(const std::vector<std::string>& files) {
  const auto deeper = std::ranges::find_if(
      files, [](const std::string& path) { return path.ends_with("/config.json"); });
  std::string found = "nothing";
  if (deeper != files.end()) {
    found = quote_entry(*deeper);
  } else if (!files.empty()) {
    found = fmt::format("{} files such as {}", files.size(), quote_entry(files.front()));
  }
  throw Error(
      ErrorCode::kCorruptCheckpoint,
      fmt::format("no config.json at the root or one directory below it, found {}; pack the "
                  "model's own directory (tar -C MODEL_DIR -cf model.tar .)",
                  found),
      std::string(kConfig));
}

}  // namespace

FileUse use_of(std::string_view path) {
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view component = path.substr(begin, end - begin);
    // Hidden: .git, .cache, .DS_Store, macOS ._name.
    if (component.starts_with('.') || component == "__MACOSX" || component == "__pycache__") {
      return FileUse::kSkipped;
    }
    begin = end + 1;
  }
  const std::string name = to_lower(path.substr(path.rfind('/') + 1));
  if (name.ends_with(".safetensors")) {
    return FileUse::kWeights;
  }
  if (is_torch_name(path.substr(path.rfind('/') + 1))) {
    return FileUse::kTorch;
  }
  if (ends_with_any(name, kSkippedExtensions) || name.find(".onnx_data") != std::string::npos) {
    return FileUse::kSkipped;
  }
  return ends_with_any(name, kMetadataExtensions) ? FileUse::kMetadata : FileUse::kSidecar;
}

bool is_module_weights(std::string_view path) {
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos) {
    return false;
  }
  const std::string_view folder = path.substr(0, slash);
  const std::string_view name = path.substr(slash + 1);
  const std::size_t digits = folder.find_first_not_of("0123456789");
  return digits != 0 && digits != std::string_view::npos && folder[digits] == '_' &&
         (name == "model.safetensors" || name == "pytorch_model.bin");
}

bool has_safetensors_beside(std::string_view path, const std::vector<std::string>& files) {
  const std::string folder(path.substr(0, path.rfind('/') + 1));
  return std::ranges::find(files, folder + "model.safetensors") != files.end() ||
         std::ranges::find(files, folder + "model.safetensors.index.json") != files.end();
}

std::string find_model_root(const std::vector<std::string>& files,
                            const std::vector<std::string>& skipped) {
  std::vector<std::string> roots;
  for (const std::string& path : files) {
    if (path == kConfig) {
      return "";
    }
    const std::string_view parent = parent_of(path);
    if (!parent.empty() && parent.find('/') == std::string_view::npos &&
        path.substr(parent.size() + 1) == kConfig) {
      roots.emplace_back(parent);
    }
  }
  if (!roots.empty() && std::ranges::find(files, kModules) != files.end()) {
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("{} lies beside {}/{}: the layout of sentence-transformers before 2.0, "
                            "with the transformer in a folder of its own; load the model and save "
                            "it again",
                            kModules,
                            roots.front(),
                            kConfig),
                std::string(kModules));
  }
  if (roots.size() > 1) {
    std::vector<std::string> with_weights;
    std::ranges::copy_if(roots, std::back_inserter(with_weights), [&](const std::string& root) {
      return has_weights(root, files) || has_weights(root, skipped);
    });
    roots = with_weights.empty() ? roots : with_weights;
  }
  if (roots.empty()) {
    fail_without_config(files);
  }
  if (roots.size() > 1) {
    std::ranges::sort(roots);
    throw Error(
        ErrorCode::kCorruptCheckpoint,
        fmt::format("{} directories hold a config.json with weights: {}; pack one model in "
                    "one archive",
                    roots.size(),
                    fmt::join(roots.begin(),
                              roots.begin() + std::min<std::ptrdiff_t>(std::ssize(roots), 5),
                              ", ")),
        std::string(kConfig));
  }
  return roots.front();
}

void keep_model_files(std::string_view root,
                      std::vector<std::string>& files,
                      std::vector<std::string>& skipped) {
  const std::string prefix = root.empty() ? "" : std::string(root) + "/";
  const std::vector<std::string> files_before = files;
  std::vector<std::string> kept;
  for (std::string& path : files) {
    const bool is_below = path.starts_with(prefix);
    std::string relative = is_below ? path.substr(prefix.size()) : "";
    const FileUse use = use_of(relative);
    const bool is_weight = use == FileUse::kWeights || use == FileUse::kTorch;
    const bool is_foreign =
        is_weight && relative.find('/') != std::string::npos && !is_module_weights(relative);
    const bool is_second = use == FileUse::kTorch && has_safetensors_beside(path, files_before);
    if (!is_below || is_foreign || is_second || relative.starts_with("onnx/")) {
      skipped.push_back(std::move(path));
    } else {
      kept.push_back(std::move(relative));
    }
  }
  std::ranges::sort(kept);
  std::ranges::sort(skipped);
  files = std::move(kept);
}

void check_weight_formats(const std::vector<std::string>& files,
                          const std::vector<std::string>& skipped) {
  const bool is_readable_or_adapter = std::ranges::any_of(files, [](const std::string& path) {
    const FileUse use = use_of(path);
    return use == FileUse::kWeights || use == FileUse::kTorch || path == "adapter_config.json";
  });
  const auto other = std::ranges::find_if(
      skipped, [](const std::string& path) { return ends_with_any(path, kOtherWeights); });
  if (is_readable_or_adapter || other == skipped.end()) {
    return;
  }
  throw Error(ErrorCode::kUnsupportedModel,
              fmt::format("found {} but no *.safetensors or pytorch_model.bin; convert the model "
                          "first (save_pretrained in transformers writes safetensors)",
                          *other),
              *other);
}

}  // namespace onnxferry
