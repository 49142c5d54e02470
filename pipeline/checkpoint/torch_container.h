#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/checkpoint/pickle.h"
#include "pipeline/random_access_file.h"

namespace onnxferry {

/// A pickle and where the bytes of its storages lie.
struct TorchContainer {
  Pickle pickle;
  std::vector<std::uint64_t> storage_offsets;  ///< in the file, one for each of pickle.storages
};

/// The zip form: <root>/data.pkl, <root>/data/<key>, all stored. Sizes are compared with what the
/// pickle says.
TorchContainer read_torch_zip(const RandomAccessFile& file);

/// The form before torch 1.6: magic number, protocol, system, object and keys as pickles, then each
/// storage's number of elements and bytes.
TorchContainer read_torch_stream(const RandomAccessFile& file);

}  // namespace onnxferry
