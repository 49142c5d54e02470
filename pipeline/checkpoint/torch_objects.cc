#include "pipeline/checkpoint/torch_objects.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/error.h"
#include "pipeline/quote.h"

namespace onnxferry {
namespace {

using Kind = Pickle::Kind;
using Name = TorchName::Kind;

constexpr std::size_t kMaxRank = 8;
// A stride of 0 lets one element stand for any number; real checkpoints have such tensors only as
// small buffers.
constexpr std::size_t kMaxObjects = 1'000'000;
constexpr std::uint64_t kMaxExpandedBytes = 64U << 20;

// Source: _get_allowed_globals in torch/_weights_only_unpickler.py, less what no weight needs.
constexpr auto kNames = std::to_array<TorchName>({
    {"collections", "OrderedDict", Name::kOrderedDict},
    {"torch._utils", "_rebuild_tensor", Name::kRebuildTensor},
    {"torch._utils", "_rebuild_tensor_v2", Name::kRebuildTensorV2},
    {"torch._utils", "_rebuild_tensor_v3", Name::kRebuildTensorV3},
    {"torch._utils", "_rebuild_parameter", Name::kRebuildParameter},
    {"torch.nn.parameter", "Parameter", Name::kParameter},
    {"torch", "Size", Name::kSize},
    {"torch", "device", Name::kDevice},
    {"torch", "FloatStorage", Name::kStorage, Dtype::kFloat32},
    {"torch", "DoubleStorage", Name::kStorage, Dtype::kFloat64},
    {"torch", "HalfStorage", Name::kStorage, Dtype::kFloat16},
    {"torch", "BFloat16Storage", Name::kStorage, Dtype::kBFloat16},
    {"torch", "LongStorage", Name::kStorage, Dtype::kInt64},
    {"torch", "IntStorage", Name::kStorage, Dtype::kInt32},
    {"torch", "ShortStorage", Name::kStorage, Dtype::kInt16},
    {"torch", "CharStorage", Name::kStorage, Dtype::kInt8},
    {"torch", "ByteStorage", Name::kStorage, Dtype::kUint8},
    {"torch", "BoolStorage", Name::kStorage, Dtype::kBool},
    {"torch.storage", "UntypedStorage", Name::kStorage, Dtype::kUint8},
    {"torch.storage", "TypedStorage", Name::kTypedStorage},
    {"torch", "float32", Name::kDtype, Dtype::kFloat32},
    {"torch", "float64", Name::kDtype, Dtype::kFloat64},
    {"torch", "float16", Name::kDtype, Dtype::kFloat16},
    {"torch", "bfloat16", Name::kDtype, Dtype::kBFloat16},
    {"torch", "float8_e4m3fn", Name::kDtype, Dtype::kFloat8E4M3},
    {"torch", "float8_e5m2", Name::kDtype, Dtype::kFloat8E5M2},
    {"torch", "int64", Name::kDtype, Dtype::kInt64},
    {"torch", "int32", Name::kDtype, Dtype::kInt32},
    {"torch", "int16", Name::kDtype, Dtype::kInt16},
    {"torch", "int8", Name::kDtype, Dtype::kInt8},
    {"torch", "uint64", Name::kDtype, Dtype::kUint64},
    {"torch", "uint32", Name::kDtype, Dtype::kUint32},
    {"torch", "uint16", Name::kDtype, Dtype::kUint16},
    {"torch", "uint8", Name::kDtype, Dtype::kUint8},
    {"torch", "bool", Name::kDtype, Dtype::kBool},
});

[[noreturn]] void fail(std::string_view where,
                       std::string_view what,
                       ErrorCode code = ErrorCode::kCorruptCheckpoint) {
  throw Error(code, fmt::format("{}: {}", where, what));
}

/// What a memo can repeat with a few bytes must not take memory each time without bound.
void check_room(std::size_t count, std::string_view what, std::string_view where) {
  if (count >= kMaxObjects) {
    fail(where,
         fmt::format("the pickle has more than {} {}", kMaxObjects, what),
         ErrorCode::kLimitExceeded);
  }
}

Kind kind_of(const Pickle& pickle, PickleId id) {
  return pickle.values.at(id).kind;
}

std::uint64_t to_count(const Pickle& pickle,
                       PickleId id,
                       std::string_view what,
                       std::string_view where) {
  const auto number = pickle.find_integer(id);
  if (!number || *number < 0) {
    fail(where, fmt::format("the pickle has {} that is no integer from 0", what));
  }
  return static_cast<std::uint64_t>(*number);
}

std::vector<std::int64_t> to_counts(const Pickle& pickle,
                                    PickleId id,
                                    std::string_view what,
                                    std::string_view where) {
  const auto* const parts = pickle.find_sequence(id);
  if (parts == nullptr || kind_of(pickle, id) == Kind::kDict) {
    fail(where, fmt::format("the pickle has {} that is no tuple", what));
  }
  if (parts->size() > kMaxRank) {
    fail(where, fmt::format("a tensor has more than {} dimensions", kMaxRank));
  }
  std::vector<std::int64_t> numbers;
  for (const PickleId part : *parts) {
    numbers.push_back(static_cast<std::int64_t>(to_count(pickle, part, what, where)));
  }
  return numbers;
}

/// Elements of `dtype` that a tensor over this storage may reach.
std::uint64_t reach(const TorchStorage& storage, Dtype dtype) {
  return storage.view_elements * item_bytes(storage.dtype) / item_bytes(dtype);
}

void check_view(const TorchTensor& tensor,
                const TorchStorage& storage,
                std::string_view key,
                std::string_view where) {
  const auto fail_view = [&] {
    fail(where,
         fmt::format("a tensor of shape [{}], strides [{}] and offset {} reaches outside its "
                     "storage {} of {} elements",
                     fmt::join(tensor.shape, ", "),
                     fmt::join(tensor.strides, ", "),
                     tensor.offset,
                     quote(key),
                     reach(storage, tensor.dtype)));
  };
  std::uint64_t elements = 1;
  std::uint64_t last = tensor.offset;
  bool is_too_large = false;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    const auto dim = static_cast<std::uint64_t>(tensor.shape[i]);
    std::uint64_t step = 0;
    is_too_large = __builtin_mul_overflow(elements, dim, &elements) || is_too_large;
    is_too_large =
        (dim > 1 &&
         (__builtin_mul_overflow(dim - 1, static_cast<std::uint64_t>(tensor.strides[i]), &step) ||
          __builtin_add_overflow(last, step, &last))) ||
        is_too_large;
  }
  const bool is_empty = std::ranges::find(tensor.shape, 0) != tensor.shape.end();
  if (is_empty) {
    return;  // reads nothing; torch keeps odd offsets and strides of these
  }
  if (is_too_large || last >= reach(storage, tensor.dtype)) {
    fail_view();
  }
  const std::uint64_t item = item_bytes(tensor.dtype);
  std::uint64_t bytes = 0;
  if (elements > last - tensor.offset + 1 &&
      (__builtin_mul_overflow(elements, item, &bytes) || bytes > kMaxExpandedBytes)) {
    fail(where,
         fmt::format("a tensor of shape [{}] and strides [{}] repeats its elements to more than {} "
                     "bytes; store it as it is meant (contiguous())",
                     fmt::join(tensor.shape, ", "),
                     fmt::join(tensor.strides, ", "),
                     kMaxExpandedBytes),
         ErrorCode::kLimitExceeded);
  }
}

/// (storage, offset, size, stride, …)
Pickle::Value rebuild_tensor(Pickle& pickle,
                             const std::vector<PickleId>& arguments,
                             std::optional<Dtype> dtype,
                             std::string_view where) {
  const Pickle::Value storage = pickle.values.at(arguments[0]);
  if (storage.kind != Kind::kStorage) {
    fail(where, "a tensor is rebuilt from something that is no storage");
  }
  const auto index = static_cast<std::size_t>(storage.number);
  const TorchStorage& of = pickle.storages.at(index);
  TorchTensor tensor{.storage = index,
                     .dtype = dtype.value_or(of.dtype),
                     .offset = to_count(pickle, arguments[1], "a storage offset", where),
                     .shape = to_counts(pickle, arguments[2], "a shape", where),
                     .strides = to_counts(pickle, arguments[3], "strides", where)};
  if (tensor.shape.size() != tensor.strides.size()) {
    fail(where,
         fmt::format("a tensor has {} dimensions and {} strides",
                     tensor.shape.size(),
                     tensor.strides.size()));
  }
  check_view(tensor, of, pickle.texts.at(of.key), where);
  check_room(pickle.tensors.size(), "tensors", where);
  pickle.tensors.push_back(std::move(tensor));
  return {.kind = Kind::kTensor, .number = static_cast<std::int64_t>(pickle.tensors.size() - 1)};
}

Pickle::Value rebuild_v3(Pickle& pickle,
                         const std::vector<PickleId>& arguments,
                         std::string_view where) {
  const Pickle::Value dtype = pickle.values.at(arguments[6]);
  if (dtype.kind != Kind::kGlobal ||
      torch_name(static_cast<std::size_t>(dtype.number)).kind != Name::kDtype) {
    fail(where, "a tensor is rebuilt with something that is no dtype");
  }
  return rebuild_tensor(
      pickle, arguments, torch_name(static_cast<std::size_t>(dtype.number)).dtype, where);
}

Pickle::Value take_parameter(const Pickle& pickle,
                             const std::vector<PickleId>& arguments,
                             std::string_view where) {
  if (kind_of(pickle, arguments[0]) != Kind::kTensor) {
    fail(where, "a parameter is made from something that is no tensor");
  }
  return pickle.values.at(arguments[0]);
}

Pickle::Value make_sequence(Pickle& pickle, Kind kind, std::vector<PickleId> parts) {
  pickle.sequences.push_back(std::move(parts));
  return {
      .kind = kind, .depth = 1, .number = static_cast<std::int64_t>(pickle.sequences.size() - 1)};
}

/// OrderedDict(), or of a list of pairs as Python 2 wrote it.
Pickle::Value make_dict(Pickle& pickle,
                        const std::vector<PickleId>& arguments,
                        std::string_view where) {
  std::vector<PickleId> items;
  if (arguments.size() == 1) {
    const auto* const pairs = pickle.find_sequence(arguments[0]);
    if (pairs == nullptr || kind_of(pickle, arguments[0]) == Kind::kDict) {
      fail(where, "an OrderedDict is made from something that is no list of pairs");
    }
    pickle.copied_items += pairs->size();
    check_room(pickle.copied_items, "items in lists of pairs", where);
    for (const PickleId id : *pairs) {
      const auto* const pair = pickle.find_sequence(id);
      if (pair == nullptr || pair->size() != 2 || kind_of(pickle, id) == Kind::kDict) {
        fail(where, "an OrderedDict is made from something that is no list of pairs");
      }
      items.insert(items.end(), pair->begin(), pair->end());
    }
  }
  return make_sequence(pickle, Kind::kDict, std::move(items));
}

struct Arity {
  std::size_t least = 0;
  std::size_t most = 0;
};

Arity arity_of(Name kind) {
  switch (kind) {
    case Name::kOrderedDict:
      return {0, 1};
    case Name::kRebuildTensor:
      return {4, 4};
    case Name::kRebuildTensorV2:
      return {6, 7};
    case Name::kRebuildTensorV3:
      return {7, 8};
    case Name::kRebuildParameter:
      return {3, 3};
    case Name::kParameter:
    case Name::kDevice:
      return {1, 2};
    default:
      return {1, 1};
  }
}

}  // namespace

std::optional<std::size_t> find_torch_name(std::string_view module, std::string_view name) {
  const auto* const found = std::ranges::find_if(
      kNames, [&](const TorchName& known) { return known.module == module && known.name == name; });
  if (found == kNames.end()) {
    return std::nullopt;
  }
  return static_cast<std::size_t>(found - kNames.begin());
}

const TorchName& torch_name(std::size_t index) {
  return kNames.at(index);
}

Pickle::Value apply_torch_name(Pickle& pickle,
                               std::size_t callable,
                               const std::vector<PickleId>& arguments,
                               std::string_view where) {
  const TorchName& name = torch_name(callable);
  const Arity arity = arity_of(name.kind);
  if (arguments.size() < arity.least || arguments.size() > arity.most) {
    fail(where,
         fmt::format("{}.{} has {} arguments, expected {} to {}",
                     name.module,
                     name.name,
                     arguments.size(),
                     arity.least,
                     arity.most));
  }
  switch (name.kind) {
    case Name::kOrderedDict:
      return make_dict(pickle, arguments, where);
    case Name::kRebuildTensor:
    case Name::kRebuildTensorV2:
      return rebuild_tensor(pickle, arguments, std::nullopt, where);
    case Name::kRebuildTensorV3:
      return rebuild_v3(pickle, arguments, where);
    case Name::kRebuildParameter:
    case Name::kParameter:
      return take_parameter(pickle, arguments, where);
    case Name::kSize: {
      to_counts(pickle, arguments[0], "a torch.Size", where);
      return make_sequence(pickle, Kind::kTuple, *pickle.find_sequence(arguments[0]));
    }
    case Name::kDevice:
      return {.kind = Kind::kDevice};
    default:
      fail(where,
           fmt::format("the pickle calls {}.{}, which is a name, but not called by torch.save; "
                       "nothing of a pickle is ever run",
                       name.module,
                       name.name),
           ErrorCode::kUnsupportedModel);
  }
}

Pickle::Value load_torch_storage(Pickle& pickle, PickleId persistent_id, std::string_view where) {
  const auto* const parts = pickle.find_sequence(persistent_id);
  if (parts == nullptr || kind_of(pickle, persistent_id) != Kind::kTuple || parts->size() < 5 ||
      parts->size() > 6) {
    fail(where, "a persistent id is no ('storage', type, key, location, elements)");
  }
  const std::string* const word = pickle.find_text((*parts)[0]);
  const Pickle::Value* const key = &pickle.values.at((*parts)[2]);
  const Pickle::Value type = pickle.values.at((*parts)[1]);
  if (word == nullptr || *word != "storage" || key->kind != Kind::kText ||
      pickle.find_text((*parts)[3]) == nullptr || type.kind != Kind::kGlobal) {
    fail(where, "a persistent id is no ('storage', type, key, location, elements)");
  }
  const std::string& key_text = *pickle.find_text((*parts)[2]);
  const TorchName& name = torch_name(static_cast<std::size_t>(type.number));
  if (name.kind != Name::kStorage) {
    fail(where, fmt::format("{}.{} is used as the type of a storage", name.module, name.name));
  }
  TorchStorage storage{.key = static_cast<std::uint32_t>(key->number),
                       .dtype = name.dtype,
                       .elements = to_count(pickle, (*parts)[4], "a number of elements", where)};
  storage.view_elements = storage.elements;
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(storage.elements, item_bytes(storage.dtype), &bytes)) {
    fail(where, fmt::format("the storage {} has {} elements", quote(key_text), storage.elements));
  }
  if (parts->size() == 6 && kind_of(pickle, (*parts)[5]) != Kind::kNone) {
    const auto* const view = pickle.find_sequence((*parts)[5]);
    if (view == nullptr || kind_of(pickle, (*parts)[5]) != Kind::kTuple || view->size() != 3) {
      fail(where, "the view of a storage is no (key, offset, elements)");
    }
    storage.view_offset = to_count(pickle, (*view)[1], "a view's offset", where);
    storage.view_elements = to_count(pickle, (*view)[2], "a view's size", where);
    if (storage.view_offset > storage.elements ||
        storage.view_elements > storage.elements - storage.view_offset) {
      fail(where, fmt::format("a view reaches outside the storage {}", quote(key_text)));
    }
  }
  check_room(pickle.storages.size(), "storages", where);
  pickle.storages.push_back(storage);
  return {.kind = Kind::kStorage, .number = static_cast<std::int64_t>(pickle.storages.size() - 1)};
}

}  // namespace onnxferry
