#include "pipeline/archive/zip_reader.h"

#include <algorithm>

#include <fmt/format.h>
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>

#include "pipeline/archive/entry_name.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr std::size_t kBlockBytes = 1U << 20;

EntryType type_of(ZipEntryType type) {
  switch (type) {
    case ZipEntryType::kFile:
      return EntryType::kFile;
    case ZipEntryType::kDirectory:
      return EntryType::kDirectory;
    case ZipEntryType::kSymlink:
      return EntryType::kSymlink;
    case ZipEntryType::kOther:
      return EntryType::kOther;
  }
  EXPORT_CHECK(false, "an unknown type of zip entry");
}

}  // namespace

struct ZipReader::State {
  inflate_state inflate{};
  std::unique_ptr<std::byte[]> input = std::make_unique_for_overwrite<std::byte[]>(kBlockBytes);
  std::unique_ptr<std::byte[]> output = std::make_unique_for_overwrite<std::byte[]>(kBlockBytes);
  std::size_t next_record = 0;
  const ZipRecord* record = nullptr;  // the current entry
  std::uint64_t taken = 0;            // compressed bytes of the current entry
  std::uint64_t given = 0;            // bytes of the current entry
  std::uint32_t crc32 = 0;
  bool is_done = true;
  std::uint64_t input_bytes = 0;  // of all entries
  std::uint64_t output_bytes = 0;
};

ZipReader::ZipReader(const FileSource& file, const ArchiveLimits& limits)
    : file_(file),
      limits_(limits),
      records_(read_zip_directory(file, limits.max_entries)),
      state_(std::make_unique<State>()) {}

ZipReader::~ZipReader() = default;

void ZipReader::fail(std::string_view what) const {
  const std::string& name = state_->record->name;
  throw Error(ErrorCode::kCorruptArchive,
              fmt::format("the entry {} {}", quote_entry(name), what),
              name.substr(0, 255));
}

std::optional<ArchiveEntry> ZipReader::next() {
  State& state = *state_;
  if (state.next_record == records_.size()) {
    return std::nullopt;
  }
  const ZipRecord& record = records_[state.next_record++];
  state.record = &record;
  state.taken = 0;
  state.given = 0;
  state.crc32 = 0;
  state.is_done = false;
  isal_inflate_init(&state.inflate);
  state.inflate.crc_flag = ISAL_DEFLATE;  // raw: no header, no checksum
  return ArchiveEntry{.name = record.name, .type = type_of(record.type), .bytes = record.bytes};
}

std::optional<EntryBlock> ZipReader::read_block() {
  State& state = *state_;
  if (state.is_done) {
    return std::nullopt;
  }
  const std::span<const std::byte> data =
      state.record->method == ZipMethod::kStored ? read_stored() : read_deflated();
  if (data.empty()) {
    finish();
    state.is_done = true;
    return std::nullopt;
  }
  state.crc32 = crc32_gzip_refl(
      state.crc32, reinterpret_cast<const unsigned char*>(data.data()), data.size());
  const EntryBlock block{.data = data, .offset = state.given};
  state.given += data.size();
  state.output_bytes += data.size();
  if (state.given > state.record->bytes) {
    fail(fmt::format("holds more than the {} bytes that the directory says", state.record->bytes));
  }
  check_expansion(file_.name(), state.input_bytes, state.output_bytes, limits_);
  return block;
}

/// The next compressed bytes of the entry, into `input`.
void ZipReader::load_input() {
  State& state = *state_;
  const std::size_t count =
      std::min<std::uint64_t>(kBlockBytes, state.record->compressed_bytes - state.taken);
  if (!file_.read_exactly(state.record->data_offset + state.taken, {state.input.get(), count})) {
    fail("became shorter while it was read");
  }
  state.taken += count;
  state.input_bytes += count;
  state.inflate.next_in = reinterpret_cast<std::uint8_t*>(state.input.get());
  state.inflate.avail_in = static_cast<std::uint32_t>(count);
}

/// \return empty at the end of the entry
std::span<const std::byte> ZipReader::read_stored() {
  load_input();
  return {state_->input.get(), state_->inflate.avail_in};
}

/// \return empty at the end of the entry
std::span<const std::byte> ZipReader::read_deflated() {
  State& state = *state_;
  state.inflate.next_out = reinterpret_cast<std::uint8_t*>(state.output.get());
  state.inflate.avail_out = kBlockBytes;
  while (state.inflate.avail_out > 0 && state.inflate.block_state != ISAL_BLOCK_FINISH) {
    if (state.inflate.avail_in == 0) {
      load_input();
    }
    const std::uint32_t input_before = state.inflate.avail_in;
    const std::uint32_t output_before = state.inflate.avail_out;
    if (isal_inflate(&state.inflate) < 0) {
      fail("has damaged deflate data");
    }
    if (input_before == state.inflate.avail_in && output_before == state.inflate.avail_out &&
        state.inflate.block_state != ISAL_BLOCK_FINISH) {
      fail("has deflate data that ends early");
    }
  }
  return {state.output.get(), kBlockBytes - state.inflate.avail_out};
}

void ZipReader::finish() const {
  const State& state = *state_;
  if (state.given != state.record->bytes) {
    fail(fmt::format("has {} of its {} bytes", state.given, state.record->bytes));
  }
  if (state.record->method == ZipMethod::kDeflate) {
    // Whole bytes that the decoder has loaded but not used, too.
    const std::uint64_t left = state.record->compressed_bytes - state.taken +
                               state.inflate.avail_in +
                               static_cast<std::uint64_t>(state.inflate.read_in_length / 8);
    if (left != 0) {
      fail(fmt::format("has {} bytes behind the end of its deflate data", left));
    }
  }
  if (state.crc32 != state.record->crc32) {
    fail(fmt::format("has CRC32 {:08x}, expected {:08x}; it was damaged in storage or transfer",
                     state.crc32,
                     state.record->crc32));
  }
}

}  // namespace onnxferry
