#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace onnxferry::testing {

struct ImpliedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// The tensors that a config.json implies for a task, without prefix and sorted by name: the graph
/// is built again and again, and given whatever tensor it says it lacks. For configs of which no
/// checkpoint exists; names and shapes are proven by the fixtures, not by this.
///
/// \param scratch  an existing directory for files that are holes
/// \throws Error as the architecture throws it for this config
std::vector<ImpliedTensor> implied_tensors(const std::string& config_json,
                                           std::string_view task,
                                           const std::filesystem::path& scratch);

enum class Fill : std::uint8_t { kHole, kRandom };

/// Write config.json and a float32 model.safetensors. Random weights are seeded: matrices N(0,
/// 0.2), vectors 1 + N(0, 0.2). A hole takes no disk and reads as zeros.
void write_checkpoint(const std::string& config_json,
                      const std::vector<ImpliedTensor>& tensors,
                      Fill fill,
                      const std::filesystem::path& directory);

}  // namespace onnxferry::testing
