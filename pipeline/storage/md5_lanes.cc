#include "pipeline/storage/md5_lanes.h"

#include <bit>
#include <cstring>
#include <utility>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

static_assert(std::endian::native == std::endian::little, "MD5 reads little-endian words");

// A compiler lowers it to what the processor has: two SSE2 registers, two NEON ones, one of AVX2.
using Vector = std::uint32_t __attribute__((vector_size(Md5Lanes::kLanes * 4)));
using Quad = std::uint32_t __attribute__((vector_size(16)));

// floor(2^32 * abs(sin(i + 1))), RFC 1321 section 3.4
constexpr std::array<std::uint32_t, 64> kSines = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};
constexpr std::array<std::array<int, 4>, 4> kRotations = {
    {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}}};

struct State {
  Vector a, b, c, d;
};

/// One of the 64 steps of a block; the state's words trade places. Inlined by force: a call would
/// put all vectors into memory.
template <std::size_t kStep>
[[gnu::always_inline]] inline void step(State& state, const std::array<Vector, 16>& words) {
  constexpr std::size_t kRound = kStep / 16;
  constexpr int kRotation = kRotations[kRound][kStep % 4];
  constexpr std::array<std::size_t, 4> kWord = {
      kStep, (5 * kStep + 1) % 16, (3 * kStep + 5) % 16, (7 * kStep) % 16};
  const auto& [a, b, c, d] = state;
  Vector mixed;
  if constexpr (kRound == 0) {
    mixed = d ^ (b & (c ^ d));
  } else if constexpr (kRound == 1) {
    mixed = c ^ (d & (b ^ c));
  } else if constexpr (kRound == 2) {
    mixed = b ^ c ^ d;
  } else {
    mixed = c ^ (b | ~d);
  }
  const Vector sum = (a + (words[kWord[kRound]] + kSines[kStep])) + mixed;  // `mixed` is last ready
  const Vector turned = b + ((sum << kRotation) | (sum >> (32 - kRotation)));
  state = {.a = d, .b = turned, .c = b, .d = c};
}

template <std::size_t... kSteps>
[[gnu::always_inline]] inline void all_steps(State& state,
                                             const std::array<Vector, 16>& words,
                                             std::index_sequence<kSteps...> /*steps*/) {
  (step<kSteps>(state, words), ...);
}

/// One block of every stream as its 16 words.
[[gnu::always_inline]] inline void load(const Md5Lanes::Streams& streams,
                                        std::size_t offset,
                                        std::array<Vector, 16>& words) {
  for (std::size_t word = 0; word < words.size(); ++word) {
    for (std::size_t lane = 0; lane < streams.size(); ++lane) {
      std::uint32_t value = 0;
      std::memcpy(&value, streams[lane] + offset + word * sizeof(value), sizeof(value));
      words[word][lane] = value;
    }
  }
}

#ifdef __x86_64__
/// The same four words of two streams.
[[gnu::always_inline]] inline void load_pair(const char* first, const char* second, Vector& pair) {
  std::array<Quad, 2> quads;
  std::memcpy(quads.data(), first, sizeof(Quad));
  std::memcpy(&quads[1], second, sizeof(Quad));
  pair = __builtin_shufflevector(quads[0], quads[1], 0, 1, 2, 3, 4, 5, 6, 7);
}

/// Words kWord to kWord + 3 of every stream, by AVX2's unpacking, which works in halves of a
/// register.
template <std::size_t kWord>
[[gnu::always_inline]] inline void transpose(const Md5Lanes::Streams& streams,
                                             std::size_t offset,
                                             std::array<Vector, 16>& words) {
  const std::size_t at = offset + kWord * sizeof(std::uint32_t);
  std::array<Vector, 4> lanes;
  load_pair(streams[0] + at, streams[4] + at, lanes[0]);
  load_pair(streams[1] + at, streams[5] + at, lanes[1]);
  load_pair(streams[2] + at, streams[6] + at, lanes[2]);
  load_pair(streams[3] + at, streams[7] + at, lanes[3]);
  const Vector low01 = __builtin_shufflevector(lanes[0], lanes[1], 0, 8, 1, 9, 4, 12, 5, 13);
  const Vector low23 = __builtin_shufflevector(lanes[2], lanes[3], 0, 8, 1, 9, 4, 12, 5, 13);
  const Vector high01 = __builtin_shufflevector(lanes[0], lanes[1], 2, 10, 3, 11, 6, 14, 7, 15);
  const Vector high23 = __builtin_shufflevector(lanes[2], lanes[3], 2, 10, 3, 11, 6, 14, 7, 15);
  words[kWord] = __builtin_shufflevector(low01, low23, 0, 1, 8, 9, 4, 5, 12, 13);
  words[kWord + 1] = __builtin_shufflevector(low01, low23, 2, 3, 10, 11, 6, 7, 14, 15);
  words[kWord + 2] = __builtin_shufflevector(high01, high23, 0, 1, 8, 9, 4, 5, 12, 13);
  words[kWord + 3] = __builtin_shufflevector(high01, high23, 2, 3, 10, 11, 6, 7, 14, 15);
}

[[gnu::always_inline]] inline void load_avx2(const Md5Lanes::Streams& streams,
                                             std::size_t offset,
                                             std::array<Vector, 16>& words) {
  transpose<0>(streams, offset, words);
  transpose<4>(streams, offset, words);
  transpose<8>(streams, offset, words);
  transpose<12>(streams, offset, words);
}
#endif

template <auto kLoad>
[[gnu::always_inline]] inline void add_blocks(State& state,
                                              const Md5Lanes::Streams& streams,
                                              std::size_t bytes) {
  for (std::size_t offset = 0; offset < bytes; offset += Md5Lanes::kBlockBytes) {
    std::array<Vector, 16> words;
    kLoad(streams, offset, words);
    const State before = state;
    all_steps(state, words, std::make_index_sequence<64>());
    state.a += before.a;
    state.b += before.b;
    state.c += before.c;
    state.d += before.d;
  }
}

#ifdef __x86_64__
[[gnu::target("avx2")]] void add_blocks_avx2(State& state,
                                             const Md5Lanes::Streams& streams,
                                             std::size_t bytes) {
  add_blocks<&load_avx2>(state, streams, bytes);
}
#endif

}  // namespace

void Md5Lanes::update(const Streams& streams, std::size_t bytes) {
  EXPORT_CHECK(bytes % kBlockBytes == 0, "MD5 lanes take whole blocks");
  State state;
  static_assert(sizeof(state) == sizeof(state_));
  std::memcpy(&state, state_.data(), sizeof(state));
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2")) {
    add_blocks_avx2(state, streams, bytes);
  } else
#endif
  {
    add_blocks<&load>(state, streams, bytes);
  }
  std::memcpy(state_.data(), &state, sizeof(state));
  bytes_ += bytes;
}

std::array<Md5, Md5Lanes::kLanes> Md5Lanes::finish() {
  std::array<char, kBlockBytes> padding{'\x80'};
  const std::uint64_t bits = bytes_ * 8;
  std::memcpy(padding.data() + kBlockBytes - sizeof(bits), &bits, sizeof(bits));
  Streams streams{};
  streams.fill(padding.data());
  update(streams, kBlockBytes);
  std::array<Md5, kLanes> digests{};
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    for (std::size_t word = 0; word < state_.size(); ++word) {
      std::memcpy(digests[lane].data() + word * 4, &state_[word][lane], 4);
    }
  }
  return digests;
}

}  // namespace onnxferry
