#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace onnxferry::fuzz {

using Input = std::span<const std::uint8_t>;

/// One parser that strangers can reach. `run` takes any bytes and returns; it aborts the process
/// when the parser does what it must not: throw anything but Error, or break a rule of its own.
struct Target {
  std::string_view name;  ///< also the folder below corpus/
  void (*run)(Input input);
};

void fuzz_safetensors(Input input);
void fuzz_index(Input input);
void fuzz_torch(Input input);
void fuzz_config(Input input);
void fuzz_archive(Input input);
void fuzz_request(Input input);
void fuzz_s3_xml(Input input);
void fuzz_offsets(Input input);

/// The archive targets share a function: the seeds decide which format is explored.
inline constexpr Target kTargets[] = {
    {"safetensors", fuzz_safetensors},
    {"index", fuzz_index},
    {"torch", fuzz_torch},
    {"config", fuzz_config},
    {"tar", fuzz_archive},
    {"compressed", fuzz_archive},
    {"zip", fuzz_archive},
    {"request", fuzz_request},
    {"s3_xml", fuzz_s3_xml},
    {"offsets", fuzz_offsets},
};

inline std::string_view as_text(Input input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

}  // namespace onnxferry::fuzz

/// Not assert: it must hold in every build.
#define FUZZ_CHECK(condition) \
  do {                        \
    if (!(condition)) {       \
      __builtin_trap();       \
    }                         \
  } while (false)
