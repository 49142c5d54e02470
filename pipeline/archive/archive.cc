#include "pipeline/archive/archive.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "pipeline/archive/byte_source.h"
#include "pipeline/archive/entry_name.h"
#include "pipeline/archive/output_directory.h"
#include "pipeline/archive/selection.h"
#include "pipeline/archive/tar_reader.h"
#include "pipeline/archive/zip_reader.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

// Holes are not in the archive's bytes: 10 KiB of sparse tar can claim gigabytes. Model files have
// none, so all of them together may not even pass one block.
constexpr std::uint64_t kMaxHoleBytes = 1U << 20;

[[noreturn]] void fail(ErrorCode code, const ArchiveEntry& entry, const std::string& what) {
  throw Error(code, fmt::format("the entry {} {}", quote_entry(entry.name), what), entry.name);
}

bool is_macos_leftover(const std::vector<std::string>& components) {
  return std::ranges::any_of(components, [](const std::string& component) {
    return component.starts_with("._") || component == "__MACOSX";
  });
}

/// One run over an archive: every entry is checked, the wanted ones are written.
class Extraction {
 public:
  /// \param max_bytes  bounds what the archive can hold at all
  Extraction(const std::filesystem::path& into,
             const ArchiveLimits& limits,
             StageScope& scope,
             std::uint64_t max_bytes)
      : limits_(limits), scope_(scope), max_bytes_(max_bytes), directory_(into) {}

  void run(EntryReader& reader) {
    while (const auto entry = reader.next()) {
      if (++entries_ > limits_.max_entries) {
        throw Error(ErrorCode::kLimitExceeded,
                    fmt::format("the archive has more than {} entries", limits_.max_entries));
      }
      take(*entry, reader);
    }
  }

  [[nodiscard]] ExtractedArchive finish(const std::filesystem::path& into) {
    const std::string root = find_model_root(result_.files, result_.skipped);
    keep_model_files(root, result_.files, result_.skipped);
    check_weight_formats(result_.files, result_.skipped);
    remove_unpacked_torch(into);
    result_.model_root = root.empty() ? into : into / root;
    return std::move(result_);
  }

 private:
  void take(const ArchiveEntry& entry, EntryReader& reader) {
    const std::vector<std::string> components = split_entry_name(entry.name, limits_);
    if (entry.type == EntryType::kDirectory) {
      names_.add_directory(components);  // made when a file needs it
      return;
    }
    if (components.empty()) {
      fail(ErrorCode::kCorruptArchive, entry, "is the archive's root, but no directory");
    }
    if (is_macos_leftover(components)) {
      result_.skipped.push_back(entry.name);
      return;
    }
    check_type(entry);
    names_.add_file(components);
    const std::string path = join_components(components, components.size());
    if (!is_wanted(entry, path, components.size())) {
      result_.skipped.push_back(entry.name);
      return;
    }
    check_claimed_size(entry, path);
    write(entry, components, reader);
    result_.files.push_back(path);
  }

  static void check_type(const ArchiveEntry& entry) {
    switch (entry.type) {
      case EntryType::kSymlink:
      case EntryType::kHardlink:
        fail(
            ErrorCode::kCorruptArchive,
            entry,
            fmt::format("is a {} link, which is not unpacked; pack files instead of links (tar -h, "
                        "and --hard-dereference)",
                        entry.type == EntryType::kSymlink ? "symbolic" : "hard"));
      case EntryType::kOther:
        fail(ErrorCode::kCorruptArchive,
             entry,
             "is a device, FIFO or socket; expected files and directories only");
      default:
        break;
    }
  }

  bool is_wanted(const ArchiveEntry& entry, const std::string& path, std::size_t depth) {
    has_root_config_ = has_root_config_ || path == "config.json";
    switch (use_of(path)) {
      case FileUse::kSkipped:
        return false;
      case FileUse::kSidecar:
        return entry.bytes <= kMaxSidecarBytes;
      case FileUse::kTorch:
        return !has_safetensors_beside(path, result_.files) && is_wanted_weight(entry, path, depth);
      case FileUse::kWeights:
        return is_wanted_weight(entry, path, depth);
      default:
        return true;
    }
  }

  /// Weights are read from the model's root only, at most one level down, and from the folders of
  /// sentence-transformers modules: deeper ones are training checkpoints or other parts and may be
  /// as large as the model.
  [[nodiscard]] bool is_wanted_weight(const ArchiveEntry& entry,
                                      const std::string& path,
                                      std::size_t depth) const {
    const std::string below = path.substr(path.find('/') + 1);
    if (is_module_weights(path) || (depth == 3 && !has_root_config_ && is_module_weights(below))) {
      return entry.bytes <= kMaxModuleBytes;
    }
    return depth == 1 || (depth == 2 && !has_root_config_);
  }

  /// Where the archive had pytorch_model.bin first and safetensors later, the former is not needed.
  void remove_unpacked_torch(const std::filesystem::path& into) const {
    for (const std::string& path : result_.skipped) {
      if (use_of(path) == FileUse::kTorch) {
        std::error_code ignored;  // most were never unpacked, and the job's end removes all
        std::filesystem::remove(into / path, ignored);
      }
    }
  }

  /// Early refusal by what the header claims; `write` counts what really comes.
  void check_claimed_size(const ArchiveEntry& entry, const std::string& path) const {
    if (entry.bytes > limit_of(path)) {
      fail(ErrorCode::kLimitExceeded,
           entry,
           fmt::format("has {} bytes, expected at most {}", entry.bytes, limit_of(path)));
    }
    if (entry.bytes > limits_.max_total_bytes - result_.bytes) {
      fail(ErrorCode::kLimitExceeded,
           entry,
           fmt::format("takes the archive past {} unpacked bytes", limits_.max_total_bytes));
    }
  }

  [[nodiscard]] std::uint64_t limit_of(const std::string& path) const {
    const FileUse use = use_of(path);
    return use == FileUse::kWeights || use == FileUse::kTorch
               ? limits_.max_file_bytes
               : std::min(limits_.max_file_bytes, limits_.max_metadata_file_bytes);
  }

  void write(const ArchiveEntry& entry,
             const std::vector<std::string>& components,
             EntryReader& reader) {
    OutputFile file = directory_.create_file(components);
    if (!entry.is_sparse) {
      // A header may claim anything up to the limits, but not make us reserve it.
      file.reserve(std::min(entry.bytes, max_bytes_));
    }
    std::uint64_t end = 0;
    while (const auto block = reader.read_block()) {
      // libarchive gives data in ascending order; anything else, or more than the header says,
      // would let a file pass its limits.
      if (block->offset < end || block->offset > entry.bytes ||
          block->data.size() > entry.bytes - block->offset) {
        fail(ErrorCode::kCorruptArchive,
             entry,
             fmt::format("has data at byte {} outside its {} bytes", block->offset, entry.bytes));
      }
      count_hole(entry, block->offset - end);
      file.write(block->offset, block->data);
      end = block->offset + block->data.size();
      result_.bytes += block->data.size();
      scope_.add_bytes(block->data.size());
    }
    if (end != entry.bytes) {
      if (!entry.is_sparse) {
        fail(ErrorCode::kCorruptArchive,
             entry,
             fmt::format("has {} of its {} bytes; the archive is truncated", end, entry.bytes));
      }
      count_hole(entry, entry.bytes - end);  // no block follows a hole at the end
      file.set_size(entry.bytes);
    }
  }

  void count_hole(const ArchiveEntry& entry, std::uint64_t bytes) {
    hole_bytes_ += bytes;  // no overflow: each hole is inside an entry that passed its limits
    result_.bytes += bytes;
    if (hole_bytes_ > kMaxHoleBytes) {
      fail(
          ErrorCode::kLimitExceeded,
          entry,
          fmt::format("is a sparse file with more than {} bytes of holes; pack it without --sparse",
                      kMaxHoleBytes));
    }
  }

  const ArchiveLimits& limits_;
  StageScope& scope_;
  std::uint64_t max_bytes_;
  OutputDirectory directory_;
  NameTable names_;
  ExtractedArchive result_;
  std::uint64_t entries_ = 0;
  std::uint64_t hole_bytes_ = 0;
  bool has_root_config_ = false;
};

}  // namespace

ExtractedArchive extract_archive(const std::filesystem::path& archive,
                                 const std::filesystem::path& into,
                                 const ArchiveLimits& limits,
                                 StageScope& scope) {
  FileSource file(archive, scope);
  const ArchiveFormat format = find_format(file);
  if (format == ArchiveFormat::kZip) {
    scope.set_total(file.file_bytes());
    ZipReader reader(file, limits);
    Extraction extraction(into, limits, scope, max_expanded_bytes(file.file_bytes(), limits));
    extraction.run(reader);
    return extraction.finish(into);
  }
  const std::unique_ptr<ByteSource> decompressed = open_compression(file, format, limits);
  ByteSource& source = decompressed ? *decompressed : file;
  if (!decompressed) {
    scope.set_total(file.file_bytes());  // of a compressed file only the end would tell
  }
  TarReader reader(source, file.name());
  Extraction extraction(into, limits, scope, source.max_bytes());
  extraction.run(reader);
  return extraction.finish(into);
}

}  // namespace onnxferry
