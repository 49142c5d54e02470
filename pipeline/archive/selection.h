#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace onnxferry {

/// What the exporter does with a file of a model directory.
enum class FileUse : std::uint8_t {
  kWeights,   ///< *.safetensors: read
  kTorch,     ///< pytorch_model*.bin: read where no model.safetensors lies beside it
  kMetadata,  ///< config, tokenizer, text: read or copied; bounded
  kSidecar,   ///< unknown; copied if it is small
  kSkipped,   ///< weights of other formats, code, archives, hidden files: never touched
};

/// Decide by the name alone. `path` is relative, components joined by '/'.
FileUse use_of(std::string_view path);

/// An unknown file above this is data, not a sidecar.
inline constexpr std::uint64_t kMaxSidecarBytes = 64ULL << 20;
/// The weights of a sentence-transformers module are one small matrix.
inline constexpr std::uint64_t kMaxModuleBytes = 256ULL << 20;

/// "2_Dense/model.safetensors" or "2_Dense/pytorch_model.bin": the weights of a module that
/// modules.json lists, by the folder names that sentence-transformers gives.
///
/// \param path  relative to the model's root
bool is_module_weights(std::string_view path);

/// Whether transformers prefers safetensors to `path`, a kTorch file: they lie beside it.
bool has_safetensors_beside(std::string_view path, const std::vector<std::string>& files);

/// Which directory holds the model: the root (""), or the only one a level below that has a
/// config.json, or the only one of these that has weights beside it.
///
/// \param files    relative paths of what was unpacked or listed
/// \param skipped  the paths left out; weights of other formats count as weights here
/// \throws Error{kCorruptCheckpoint} none, or several
std::string find_model_root(const std::vector<std::string>& files,
                            const std::vector<std::string>& skipped);

/// Split `files` by the model root: what is below it, relative to it, stays; the rest (other
/// directories, an export in onnx/, weights in subdirectories, which are training checkpoints or
/// other parts, and pytorch_model.bin beside safetensors) moves to `skipped`. Both end up sorted.
void keep_model_files(std::string_view root,
                      std::vector<std::string>& files,
                      std::vector<std::string>& skipped);

/// Refuse a model whose only weights are of formats that were skipped; without this, all that could
/// be said later is that the weights are missing.
///
/// \param files    as keep_model_files leaves them
/// \param skipped  names as the archive has them
/// \throws Error{kUnsupportedModel}
void check_weight_formats(const std::vector<std::string>& files,
                          const std::vector<std::string>& skipped);

}  // namespace onnxferry
