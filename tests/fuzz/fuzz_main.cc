#include <cstddef>
#include <cstdint>

#include "tests/fuzz/targets.h"

// One program per target; the build gives FUZZ_RUN.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  onnxferry::fuzz::FUZZ_RUN({data, size});
  return 0;
}
