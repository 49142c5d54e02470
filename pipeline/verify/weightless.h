#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace onnxferry {

/// The graph of an .onnx file without its weights.
///
/// Every inline tensor of some size has become external data: location = the file itself, offset
/// and length = where its raw_data lies in it. So a checker or a session that gets these bytes
/// (with the file's directory as the place of external data) sees the whole model while only the
/// graph is in memory. Small tensors stay inline: shape inference needs their values.
struct WeightlessModel {
  std::string bytes;              ///< a serialized onnx.ModelProto
  std::uint64_t file_bytes = 0;   ///< size of the file on disk
  std::uint64_t moved_bytes = 0;  ///< bytes of tensors that `bytes` points to
};

/// Scan an .onnx file and make its weightless copy. Weights are skipped, never read.
///
/// \throws Error{kVerificationFailed} when the file is missing, larger than protobuf allows (2 GiB)
/// or not a well-formed protobuf message
/// Cost: one read of everything but the weights; memory of the graph.
WeightlessModel read_weightless(const std::filesystem::path& onnx_file);

}  // namespace onnxferry
