#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "pipeline/checkpoint/pickle.h"

namespace onnxferry {

/// The names that a pickle may mention. Each stands for a rule below, never for code.
struct TorchName {
  enum class Kind : std::uint8_t {
    kOrderedDict,
    kRebuildTensor,
    kRebuildTensorV2,
    kRebuildTensorV3,
    kRebuildParameter,
    kParameter,
    kSize,
    kDevice,
    kStorage,       ///< with `dtype`
    kTypedStorage,  ///< carries no dtype, so no tensor can use it
    kDtype,         ///< with `dtype`
  };
  std::string_view module;
  std::string_view name;
  Kind kind = Kind::kOrderedDict;
  Dtype dtype = Dtype::kUint8;
};

/// Index into the list of names; nullopt for a name that is not on it.
std::optional<std::size_t> find_torch_name(std::string_view module, std::string_view name);
const TorchName& torch_name(std::size_t index);

/// What torch would make of `callable(*arguments)`, as a value for `pickle`; its tables may grow.
///
/// \param callable   index from find_torch_name
/// \param arguments  the tuple's parts
/// \param where      begins messages: file and byte
/// \throws Error{kCorruptCheckpoint} arguments of the wrong number or kind, a view outside its
///         storage; Error{kUnsupportedModel} a name that cannot be called;
///         Error{kLimitExceeded} a tensor that expands its storage past 64 MiB
Pickle::Value apply_torch_name(Pickle& pickle,
                               std::size_t callable,
                               const std::vector<PickleId>& arguments,
                               std::string_view where);

/// The storage that a persistent id names: ('storage', type, key, location, elements[, view]).
/// \throws Error{kCorruptCheckpoint}
Pickle::Value load_torch_storage(Pickle& pickle, PickleId persistent_id, std::string_view where);

}  // namespace onnxferry
