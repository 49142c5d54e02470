#pragma once

#include <cstdint>
#include <filesystem>

namespace onnxferry::bench {

/// The plain way, on one thread: read the input in 1 MiB pieces (as large as ours, and faster than
/// 8 MiB), write `out_bytes` bytes in step with it, and hash them; no conversion at all. Prints the
/// sha256.
void run_baseline(const std::filesystem::path& in,
                  const std::filesystem::path& out,
                  std::uint64_t out_bytes);

}  // namespace onnxferry::bench
