#include <string>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

#include "pipeline/checkpoint/torch_container.h"
#include "pipeline/error.h"
#include "pipeline/quote.h"
#include "pipeline/zip/directory.h"

namespace onnxferry {
namespace {

constexpr std::uint64_t kMaxRecords = 1'000'016;  // a million storages and the few others
constexpr std::string_view kPickleName = "data.pkl";

using Records = std::unordered_map<std::string, ZipRecord>;

[[noreturn]] void fail(const RandomAccessFile& file,
                       std::string_view what,
                       ErrorCode code = ErrorCode::kCorruptCheckpoint) {
  throw Error(code, fmt::format("{}: {}", file.name(), what), file.name());
}

/// The rules of archives hold for a zip in one, too; only whose fault it is differs.
std::vector<ZipRecord> read_directory(const RandomAccessFile& file) {
  try {
    return read_zip_directory(file, kMaxRecords);
  } catch (const Error& error) {
    switch (error.code()) {
      case ErrorCode::kCorruptArchive:
        fail(file, error.message());
      case ErrorCode::kUnsupportedOption:
        fail(file, error.message(), ErrorCode::kUnsupportedModel);
      default:
        throw;
    }
  }
}

/// "archive" of archive/data.pkl: the one folder that everything is in.
std::string find_root(const RandomAccessFile& file, const std::vector<ZipRecord>& records) {
  for (const ZipRecord& record : records) {
    const std::size_t slash = record.name.find('/');
    if (slash != std::string::npos && record.name.substr(slash + 1) == kPickleName) {
      return record.name.substr(0, slash + 1);
    }
  }
  fail(file,
       fmt::format("is a zip without {} in its folder; expected what torch.save writes",
                   kPickleName));
}

Records index_records(const RandomAccessFile& file) {
  std::vector<ZipRecord> listed = read_directory(file);
  const std::string root = find_root(file, listed);
  Records records;
  for (ZipRecord& record : listed) {
    if (!record.name.starts_with(root)) {
      fail(file,
           fmt::format("has the record {} outside its folder {}", quote(record.name), quote(root)));
    }
    if (record.type != ZipEntryType::kFile || record.method != ZipMethod::kStored) {
      fail(file,
           fmt::format("has the record {}, which is no stored file; torch.save compresses nothing",
                       quote(record.name)));
    }
    std::string name = record.name.substr(root.size());
    const auto [at, is_new] = records.emplace(std::move(name), std::move(record));
    if (!is_new) {
      fail(file, fmt::format("has the record {} twice", quote(at->second.name)));
    }
  }
  return records;
}

void check_byte_order(const RandomAccessFile& file, const Records& records) {
  const auto found = records.find("byteorder");
  if (found == records.end()) {
    return;  // before torch 2.1; only little-endian machines wrote it
  }
  constexpr std::string_view kLittle = "little";
  std::string order(std::min<std::uint64_t>(found->second.bytes, kLittle.size() + 1), '\0');
  if (!file.read_exactly(found->second.data_offset, std::as_writable_bytes(std::span(order))) ||
      order != kLittle) {
    fail(file,
         fmt::format("has the byte order {}, expected \"little\"", quote(order)),
         ErrorCode::kUnsupportedModel);
  }
}

}  // namespace

TorchContainer read_torch_zip(const RandomAccessFile& file) {
  const Records records = index_records(file);
  if (records.contains("constants.pkl")) {
    fail(file,
         "is a TorchScript archive, a program; save the model's state dict instead",
         ErrorCode::kUnsupportedModel);
  }
  check_byte_order(file, records);
  const ZipRecord& pickled = records.at(std::string(kPickleName));
  if (pickled.bytes > kMaxPickleBytes) {
    fail(
        file,
        fmt::format(
            "has {} bytes of {}, expected at most {}", pickled.bytes, kPickleName, kMaxPickleBytes),
        ErrorCode::kLimitExceeded);
  }
  PickleInput input(file, pickled.data_offset, pickled.data_offset + pickled.bytes);
  TorchContainer container{.pickle = read_pickle(input), .storage_offsets = {}};
  if (input.left() != 0) {
    fail(file, fmt::format("has {} bytes behind the pickle's STOP", input.left()));
  }
  for (const TorchStorage& storage : container.pickle.storages) {
    const std::string& key = container.pickle.texts[storage.key];
    const auto record = records.find("data/" + key);
    if (record == records.end()) {
      fail(file, fmt::format("has no record data/{} for a tensor's storage", quote(key)));
    }
    const std::uint64_t bytes = storage.elements * item_bytes(storage.dtype);
    if (record->second.bytes != bytes) {
      fail(file,
           fmt::format("has {} bytes of storage {}, but the pickle says {} elements of {} bytes",
                       record->second.bytes,
                       quote(key),
                       storage.elements,
                       item_bytes(storage.dtype)));
    }
    container.storage_offsets.push_back(record->second.data_offset);
  }
  return container;
}

}  // namespace onnxferry
