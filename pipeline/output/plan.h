#pragma once

#include <string>
#include <vector>

#include "pipeline/graph/model.h"
#include "pipeline/output/writer.h"

namespace onnxferry {

/// A graph's weights stay inside its .onnx file below this size, and go to `<name>.onnx_data` from
/// it on. protobuf itself ends at 2 GiB.
inline constexpr std::uint64_t kMaxInlineBytes = 2'000'000'000;

/// Lay out one graph as files: every name, size and offset is fixed here, before a weight is read.
/// Initializers are put in the order of their tensors in the checkpoint, so that reading and
/// writing are both sequential.
///
/// \param max_inline_bytes  kMaxInlineBytes, less in tests
/// \return the .onnx file, then its external data file if there is one
std::vector<PlannedFile> plan_files(const GraphModel& model,
                                    const std::string& onnx_name,
                                    std::uint64_t max_inline_bytes = kMaxInlineBytes);

}  // namespace onnxferry
