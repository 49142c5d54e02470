#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace onnxferry {

/// A checked model.safetensors.index.json or pytorch_model.bin.index.json.
struct ShardIndex {
  std::vector<std::string> shards;                          ///< base names, sorted, each once
  std::unordered_map<std::string, std::uint32_t> shard_of;  ///< tensor name → index in `shards`
};

/// Parse a shard index.
///
/// \param json       the whole file
/// \param file_name  for messages
/// \param extension  of the shards
/// \throws Error{kCorruptCheckpoint} if it is not {"weight_map": {tensor: file}}, names a tensor
///         twice, or a file is no plain base name with that extension; Error{kLimitExceeded} past
///         512 shards, which are all held open
/// Keys beside weight_map are ignored: transformers writes only metadata.total_size there, and
/// tools that edit shards often leave it stale. Thread: any.
ShardIndex parse_shard_index(std::string_view json,
                             std::string_view file_name,
                             std::string_view extension = ".safetensors");

}  // namespace onnxferry
