#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/checkpoint/pickle_input.h"

namespace onnxferry {

/// Bytes that a pickle's tensors point into, as its persistent id describes them. Where they lie
/// the container says.
struct TorchStorage {
  std::uint32_t key = 0;  ///< index into the pickle's texts
  Dtype dtype = Dtype::kUint8;
  std::uint64_t elements = 0;  ///< of the whole storage
  std::uint64_t view_offset = 0;
  std::uint64_t view_elements = 0;  ///< all of it but in the oldest files
};

/// A view into a storage; already checked to lie inside.
struct TorchTensor {
  std::size_t storage = 0;  ///< index
  Dtype dtype = Dtype::kUint8;
  std::uint64_t offset = 0;  ///< elements of `dtype`
  Shape shape;
  std::vector<std::int64_t> strides;  ///< elements
};

/// One value of a pickle. Values are numbers in a table; containers name their parts by number, so
/// nothing is ever copied or followed deeply.
using PickleId = std::uint32_t;

/// What a pickle describes, as data. Nothing in it was imported, called or constructed.
struct Pickle {
  enum class Kind : std::uint8_t {
    kNone,
    kBool,
    kInteger,
    kLong,  ///< more than 64 bits; `texts` has its bytes
    kFloat,
    kText,
    kTuple,
    kList,
    kDict,  ///< keys and values by turns
    kSet,
    kGlobal,
    kStorage,
    kTensor,
    kDevice,
  };
  struct Value {
    Kind kind = Kind::kNone;
    std::uint8_t depth = 0;   ///< containers inside one another
    std::int64_t number = 0;  ///< of kBool and kInteger; else an index into the kind's table
  };

  std::vector<Value> values;
  std::vector<std::string> texts;
  std::vector<std::vector<PickleId>> sequences;
  std::vector<TorchStorage> storages;
  std::vector<TorchTensor> tensors;
  std::size_t copied_items = 0;  ///< of lists that became dicts
  PickleId root = 0;

  [[nodiscard]] const std::string* find_text(PickleId id) const;
  [[nodiscard]] std::optional<std::int64_t> find_integer(PickleId id) const;
  /// The parts of a tuple, list or dict; nullptr for other kinds.
  [[nodiscard]] const std::vector<PickleId>* find_sequence(PickleId id) const;
};

inline constexpr std::uint64_t kMaxPickleBytes = 64U << 20;

/// Read one pickle up to its STOP with a machine that has only the opcodes torch.save writes and
/// only the names that tensors need; all it makes are the tables above. This is not a sandbox
/// around an interpreter: there is nothing in it that could call or import.
///
/// \throws Error{kCorruptCheckpoint} a malformed pickle, or a tensor outside its storage;
///         Error{kUnsupportedModel} any opcode or name beyond, named; Error{kLimitExceeded} size,
///         depth, number of values
/// Cost: linear in the bytes read; memory at most about 100 bytes for each value, 4,000,000 of
/// them. Source: torch/_weights_only_unpickler.py, torch/_utils.py, pickletools of CPython.
Pickle read_pickle(PickleInput& input);

}  // namespace onnxferry
