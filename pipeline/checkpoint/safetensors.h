#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "pipeline/checkpoint/checkpoint.h"

namespace onnxferry {

/// Longest header that the reference implementation reads; longer ones are refused before any
/// allocation.
inline constexpr std::uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// More tensors than any model has; bounds memory, since each costs more in it than in the header.
inline constexpr std::size_t kMaxSafetensorsTensors = 1'000'000;

/// Length of the header from the first 8 bytes of a safetensors file.
///
/// \param prefix      the first bytes of the file, at most 8
/// \param file_bytes  size of the whole file
/// \param file_name   for messages
/// \throws Error{kCorruptCheckpoint} if the file cannot hold it
std::uint64_t safetensors_header_bytes(std::string_view prefix,
                                       std::uint64_t file_bytes,
                                       std::string_view file_name);

/// Check a safetensors header and list its tensors by offset. Data is not looked at.
///
/// \param json        the header without its length
/// \param file_bytes  size of the whole file: 8 + json.size() + tensor data
/// \param file_name   for messages
/// \param max_tensors for tests
/// \return            offsets count from the file's start; `file` is 0
/// \throws Error{kCorruptCheckpoint} naming file and tensor for every way a header can be wrong;
///         Error{kUnsupportedModel} for dtypes and frameworks that are not read
/// Cost: linear, memory about that of the result. Thread: any.
/// Source: safetensors/src/tensor.rs (Metadata::validate); README of this folder for what is
/// stricter.
std::vector<TensorInfo> parse_safetensors_header(std::string_view json,
                                                 std::uint64_t file_bytes,
                                                 std::string_view file_name,
                                                 std::size_t max_tensors = kMaxSafetensorsTensors);

}  // namespace onnxferry
