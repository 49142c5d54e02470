#include <string>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

#include "pipeline/checkpoint/torch_container.h"
#include "pipeline/error.h"
#include "pipeline/quote.h"

namespace onnxferry {
namespace {

constexpr std::string_view kMagic{"\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19", 10};
constexpr std::int64_t kProtocol = 1001;

[[noreturn]] void fail(const RandomAccessFile& file,
                       std::string_view what,
                       ErrorCode code = ErrorCode::kCorruptCheckpoint) {
  throw Error(code, fmt::format("{}: {}", file.name(), what), file.name());
}

void check_head(const RandomAccessFile& file, PickleInput& input) {
  const Pickle magic = read_pickle(input);
  const Pickle::Value value = magic.values.at(magic.root);
  if (value.kind != Pickle::Kind::kLong ||
      magic.texts[static_cast<std::size_t>(value.number)] != kMagic) {
    fail(file,
         "is a pickle, but not one that torch.save wrote; expected a state dict saved with "
         "torch.save",
         ErrorCode::kUnsupportedModel);
  }
  const Pickle protocol = read_pickle(input);
  if (protocol.find_integer(protocol.root) != kProtocol) {
    fail(
        file, fmt::format("has another protocol than {}", kProtocol), ErrorCode::kUnsupportedModel);
  }
}

/// {protocol_version, little_endian, type_sizes}
void check_system(const RandomAccessFile& file, const Pickle& system) {
  const auto* const items = system.find_sequence(system.root);
  if (items == nullptr || system.values.at(system.root).kind != Pickle::Kind::kDict) {
    fail(file, "has no description of the system that wrote it");
  }
  for (std::size_t i = 0; i + 1 < items->size(); i += 2) {
    const std::string* const key = system.find_text((*items)[i]);
    if (key != nullptr && *key == "little_endian") {
      const Pickle::Value value = system.values.at((*items)[i + 1]);
      if (value.kind == Pickle::Kind::kBool && value.number == 1) {
        return;
      }
    }
  }
  fail(file, "does not say that it is little endian", ErrorCode::kUnsupportedModel);
}

struct Range {
  std::uint64_t offset = 0;
  std::uint64_t elements = 0;
  Dtype dtype = Dtype::kUint8;
  bool is_found = false;
};

using Ranges = std::unordered_map<std::string, Range>;

/// What the pickle says of each key; the same key must always say the same.
Ranges collect_keys(const RandomAccessFile& file, const Pickle& pickle) {
  Ranges ranges;
  for (const TorchStorage& storage : pickle.storages) {
    const std::string& key = pickle.texts[storage.key];
    const auto [at, is_new] =
        ranges.emplace(key, Range{.elements = storage.elements, .dtype = storage.dtype});
    if (!is_new && (at->second.elements != storage.elements || at->second.dtype != storage.dtype)) {
      fail(file, fmt::format("describes the storage {} in two ways", quote(key)));
    }
  }
  return ranges;
}

/// The list of keys, then the data in its order.
void find_data(const RandomAccessFile& file, PickleInput& input, Ranges& ranges) {
  const Pickle list = read_pickle(input);
  const auto* const keys = list.find_sequence(list.root);
  if (keys == nullptr || list.values.at(list.root).kind != Pickle::Kind::kList) {
    fail(file, "has no list of storages behind its pickle");
  }
  std::uint64_t position = input.position();
  for (const PickleId id : *keys) {
    const std::string* const key = list.find_text(id);
    const auto at = key == nullptr ? ranges.end() : ranges.find(*key);
    if (at == ranges.end() || at->second.is_found) {
      fail(file,
           fmt::format("lists the storage {}, which {}",
                       key == nullptr ? "(no text)" : quote(*key),
                       at == ranges.end() ? "no tensor has" : "it listed before"));
    }
    Range& range = at->second;
    PickleInput count(file, position, file.file_bytes());
    const std::uint64_t elements = count.number(8);
    const std::uint64_t bytes = range.elements * item_bytes(range.dtype);  // checked by the pickle
    range.offset = count.position();
    range.is_found = true;
    if (elements != range.elements || bytes > file.file_bytes() - range.offset) {
      fail(file,
           fmt::format("has {} elements of storage {} in {} bytes, but the pickle says {} elements",
                       elements,
                       quote(*key),
                       file.file_bytes() - range.offset,
                       range.elements));
    }
    position = range.offset + bytes;
  }
  if (position != file.file_bytes()) {
    fail(file, fmt::format("has {} bytes behind its last storage", file.file_bytes() - position));
  }
}

}  // namespace

TorchContainer read_torch_stream(const RandomAccessFile& file) {
  PickleInput input(file, 0, file.file_bytes());
  check_head(file, input);
  check_system(file, read_pickle(input));
  TorchContainer container{.pickle = read_pickle(input), .storage_offsets = {}};
  Ranges ranges = collect_keys(file, container.pickle);
  find_data(file, input, ranges);
  for (const TorchStorage& storage : container.pickle.storages) {
    const std::string& key = container.pickle.texts[storage.key];
    const Range& range = ranges.at(key);
    if (!range.is_found) {
      fail(file, fmt::format("does not list the storage {} of a tensor", quote(key)));
    }
    container.storage_offsets.push_back(range.offset +
                                        storage.view_offset * item_bytes(storage.dtype));
  }
  return container;
}

}  // namespace onnxferry
