#include <algorithm>
#include <array>
#include <new>

#include <fmt/format.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "pipeline/archive/byte_source.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr std::size_t kBlockBytes = 1U << 20;
// 128 MiB, what zstd itself decodes without being asked for more. The window is the memory that a
// frame claims.
constexpr int kMaxWindowLog = 27;
constexpr std::size_t kMagicBytes = 4;

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

bool is_frame_magic(std::span<const std::byte, kMagicBytes> bytes) {
  std::uint32_t magic = 0;
  for (std::size_t i = 0; i < kMagicBytes; ++i) {
    magic |= std::to_integer<std::uint32_t>(bytes[i]) << (8 * i);
  }
  return magic == ZSTD_MAGICNUMBER ||
         (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

}  // namespace

struct ZstdSource::State {
  std::unique_ptr<ZSTD_DCtx, FreeContext> context{ZSTD_createDCtx()};
  std::unique_ptr<std::byte[]> output = std::make_unique_for_overwrite<std::byte[]>(kBlockBytes);
  std::array<std::byte, kMagicBytes> magic{};  // of the frame that starts
  std::span<const std::byte> input;            // of the block, not used yet
  std::size_t output_used = 0;
  std::uint64_t input_bytes = 0;
  std::uint64_t output_bytes = 0;
  std::uint64_t frames = 0;
  bool in_frame = false;
};

ZstdSource::ZstdSource(FileSource& file, const ArchiveLimits& limits)
    : file_(file), limits_(limits), state_(std::make_unique<State>()) {
  if (!state_->context) {
    throw std::bad_alloc();
  }
  ZSTD_DCtx_setParameter(state_->context.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
}

ZstdSource::~ZstdSource() = default;

std::uint64_t ZstdSource::max_bytes() const {
  return max_expanded_bytes(file_.file_bytes(), limits_);
}

void ZstdSource::fail(ErrorCode code, std::string_view what) const {
  throw Error(
      code,
      fmt::format(
          "{}: {} near byte {}", file_.name(), what, state_->input_bytes - state_->input.size()),
      file_.name());
}

std::span<const std::byte> ZstdSource::next() {
  State& state = *state_;
  state.output_used = 0;
  while (state.output_used < kBlockBytes) {
    if (!state.in_frame && !start_frame()) {
      break;
    }
    decompress();
  }
  state.output_bytes += state.output_used;
  check_expansion(file_.name(), state.input_bytes, state.output_bytes, limits_);
  return {state.output.get(), state.output_used};
}

/// \return false at the end of the file
bool ZstdSource::refill() {
  State& state = *state_;
  if (state.input.empty()) {
    state.input = file_.next();
    state.input_bytes += state.input.size();
  }
  return !state.input.empty();
}

/// Take the magic number of the next frame by hand: the library would also decode the formats of
/// zstd's first year, and cannot tell a clean end from a cut.
/// \return false at the clean end of the file
bool ZstdSource::start_frame() {
  State& state = *state_;
  std::size_t have = 0;
  while (have < kMagicBytes && refill()) {
    const std::size_t count = std::min(kMagicBytes - have, state.input.size());
    std::ranges::copy(state.input.first(count), std::span(state.magic).subspan(have).begin());
    state.input = state.input.subspan(count);
    have += count;
  }
  if (have == 0) {
    return false;
  }
  if (have < kMagicBytes || !is_frame_magic(state.magic)) {
    fail(ErrorCode::kCorruptArchive,
         state.frames > 0 ? "something that is no zstd frame follows the last zstd frame,"
                          : "the zstd header is damaged,");
  }
  ++state.frames;
  state.in_frame = true;
  ZSTD_inBuffer in{state.magic.data(), kMagicBytes, 0};
  ZSTD_outBuffer out{nullptr, 0, 0};
  ZSTD_DCtx_reset(state.context.get(), ZSTD_reset_session_only);
  if (ZSTD_isError(ZSTD_decompressStream(state.context.get(), &out, &in)) != 0 ||
      in.pos != kMagicBytes) {
    fail(ErrorCode::kCorruptArchive, "the zstd header is damaged,");
  }
  return true;
}

/// Decompress until the output is full, the input block is used up or the frame ends.
void ZstdSource::decompress() {
  State& state = *state_;
  const bool has_input = refill();
  ZSTD_inBuffer in{state.input.data(), state.input.size(), 0};
  ZSTD_outBuffer out{state.output.get(), kBlockBytes, state.output_used};
  const std::size_t result = ZSTD_decompressStream(state.context.get(), &out, &in);
  const bool is_stuck = in.pos == 0 && out.pos == state.output_used;
  state.input = state.input.subspan(in.pos);
  state.output_used = out.pos;
  if (ZSTD_isError(result) == 0) {
    state.in_frame = result != 0;
    if (state.in_frame && is_stuck && !has_input) {
      fail(ErrorCode::kCorruptArchive, "the zstd data ends early; the file is truncated,");
    }
    return;
  }
  switch (ZSTD_getErrorCode(result)) {
    case ZSTD_error_frameParameter_windowTooLarge:
      fail(ErrorCode::kLimitExceeded,
           "the zstd frame needs a window of more than 128 MiB; pack with zstd --long=27 at most,");
    case ZSTD_error_checksum_wrong:
      fail(ErrorCode::kCorruptArchive,
           "the zstd checksum differs from the data; the file was damaged in storage or transfer,");
    case ZSTD_error_dictionary_wrong:
      fail(ErrorCode::kUnsupportedOption, "the zstd frame needs a dictionary; pack without one,");
    case ZSTD_error_memory_allocation:
      throw std::bad_alloc();
    default:
      fail(ErrorCode::kCorruptArchive,
           fmt::format("the zstd data is damaged ({}),", ZSTD_getErrorName(result)));
  }
}

}  // namespace onnxferry
