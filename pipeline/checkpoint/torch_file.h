#pragma once

#include <vector>

#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/random_access_file.h"

namespace onnxferry {

/// List the tensors of a file that torch.save wrote from a state dict: the zip form (torch 1.6 and
/// newer) or the stream before it. Nothing of the pickle in it is run (pickle.h); tensor data is
/// not looked at.
///
/// \return  by offset; `file` is 0. A tensor whose elements do not lie in row-major order has
///          `strides`. Tied weights are two tensors over the same bytes.
/// \throws Error{kCorruptCheckpoint} naming file and tensor; Error{kUnsupportedModel} what is no
///         plain state dict: names outside the few that tensors need, a nested training
///         checkpoint, TorchScript, the tar form, compressed or big-endian data;
///         Error{kLimitExceeded}
/// Source: torch/serialization.py (_save, _load, _legacy_save, _legacy_load).
std::vector<TensorInfo> read_torch_file(const RandomAccessFile& file);

}  // namespace onnxferry
