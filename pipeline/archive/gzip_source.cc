#include <fmt/format.h>
#include <isa-l/igzip_lib.h>

#include "pipeline/archive/byte_source.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr std::size_t kBlockBytes = 1U << 20;

}  // namespace

struct GzipSource::State {
  inflate_state inflate{};
  std::unique_ptr<std::byte[]> output = std::make_unique_for_overwrite<std::byte[]>(kBlockBytes);
  std::uint64_t input_bytes = 0;
  std::uint64_t output_bytes = 0;
  std::uint64_t members = 0;
  bool in_member = false;
  bool at_end = false;  // of the file
};

GzipSource::GzipSource(FileSource& file, const ArchiveLimits& limits)
    : file_(file), limits_(limits), state_(std::make_unique<State>()) {
  isal_inflate_init(&state_->inflate);
}

GzipSource::~GzipSource() = default;

std::uint64_t GzipSource::max_bytes() const {
  return max_expanded_bytes(file_.file_bytes(), limits_);
}

std::span<const std::byte> GzipSource::next() {
  State& state = *state_;
  state.inflate.next_out = reinterpret_cast<std::uint8_t*>(state.output.get());
  state.inflate.avail_out = kBlockBytes;
  while (state.inflate.avail_out > 0) {
    if (!state.in_member && !start_member()) {
      break;
    }
    inflate();
  }
  const std::size_t count = kBlockBytes - state.inflate.avail_out;
  state.output_bytes += count;
  check_expansion(file_.name(), state.input_bytes, state.output_bytes, limits_);
  return {state.output.get(), count};
}

void GzipSource::refill() {
  State& state = *state_;
  if (state.inflate.avail_in > 0 || state.at_end) {
    return;
  }
  const std::span<const std::byte> block = file_.next();
  state.at_end = block.empty();
  state.input_bytes += block.size();
  // ISA-L reads through a pointer to non-const, but never writes there.
  state.inflate.next_in =
      const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(block.data()));
  state.inflate.avail_in = static_cast<std::uint32_t>(block.size());
}

/// \return false at the clean end of the file
bool GzipSource::start_member() {
  State& state = *state_;
  refill();
  if (state.at_end) {
    return false;
  }
  isal_inflate_reset(&state.inflate);
  state.inflate.crc_flag = ISAL_GZIP;  // parse the header, verify CRC32 and length at the end
  state.in_member = true;
  ++state.members;
  return true;
}

/// Inflate until the output is full, the input block is used up or the member ends.
void GzipSource::inflate() {
  State& state = *state_;
  refill();
  const std::uint32_t input_before = state.inflate.avail_in;
  const std::uint32_t output_before = state.inflate.avail_out;
  const auto fail = [&](std::string_view what) {
    throw Error(
        ErrorCode::kCorruptArchive,
        fmt::format(
            "{}: {} near byte {}", file_.name(), what, state.input_bytes - state.inflate.avail_in),
        file_.name());
  };
  switch (isal_inflate(&state.inflate)) {
    case ISAL_DECOMP_OK:
    case ISAL_END_INPUT:
    case ISAL_OUT_OVERFLOW:
      break;
    case ISAL_INCORRECT_CHECKSUM:
      fail(
          "gzip CRC32 or length differs from the data; the file was damaged in storage or "
          "transfer,");
      break;
    case ISAL_INVALID_WRAPPER:
    case ISAL_UNSUPPORTED_METHOD:
      fail(state.members > 1 ? "something that is no gzip follows the last gzip member,"
                             : "the gzip header is damaged,");
      break;
    default:
      fail("the gzip data is damaged,");
  }
  if (state.inflate.block_state == ISAL_BLOCK_FINISH) {
    state.in_member = false;
    return;
  }
  const bool stuck =
      input_before == state.inflate.avail_in && output_before == state.inflate.avail_out;
  if (stuck && state.at_end) {
    fail(state.members > 1
             ? "the last gzip member ends early, or is no gzip; the file is truncated, "
               "or something was appended,"
             : "the gzip data ends early; the file is truncated,");
  }
}

}  // namespace onnxferry
