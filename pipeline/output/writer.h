#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "pipeline/report.h"
#include "pipeline/stage.h"
#include "pipeline/weights/recipe.h"

namespace onnxferry {

/// A piece of an output file whose length is known before anything is read: literal bytes (protobuf
/// framing, padding) or a recipe.
using Segment = std::variant<std::string, Recipe>;

struct PlannedFile {
  std::string name;  ///< relative to the output directory
  std::string kind;  ///< FileReport::kind
  std::vector<Segment> segments;
  [[nodiscard]] std::uint64_t bytes() const;
};

/// Write planned files, each front to back, reading every source tensor as the segments ask for it.
/// Two threads: this one evaluates and writes, the other hashes each 1 MiB buffer while it is
/// written. A file that fits in one buffer needs no thread. Files are created with mode 0600 and
/// get 0644 when they are complete; a file that exists already is an error.
///
/// \return one report per file, in the order given
/// \throws Error{kResourceExhausted} when the disk is full; Error{kCancelled}; what the source
/// throws.
///         On a throw the directory holds incomplete files: the caller drops it.
std::vector<FileReport> write_files(const std::vector<PlannedFile>& files,
                                    const TensorSource& source,
                                    const std::filesystem::path& directory,
                                    StageScope& scope);

}  // namespace onnxferry
