#include "tests/support/tests_dir.h"

namespace onnxferry {

// The only object that knows an absolute path: every other one is the same in any checkout, so a
// second checkout finds it in the compiler cache.
std::filesystem::path tests_dir() {
  return ONNXFERRY_TESTS_DIR;
}

}  // namespace onnxferry
