#pragma once

#include <cstdlib>
#include <memory>

#include "pipeline/verify/verify.h"

namespace onnxferry::testing {

/// $ONNXFERRY_ONNXRUNTIME, or the ONNX Runtime that the build found; null in a build without it.
inline OnnxRuntime* runtime() {
#ifdef ONNXFERRY_TEST_ONNXRUNTIME
  // NOLINTNEXTLINE(concurrency-mt-unsafe): tests set no environment
  const char* const named = std::getenv("ONNXFERRY_ONNXRUNTIME");
  static const std::shared_ptr<OnnxRuntime> loaded =
      OnnxRuntime::load(named != nullptr ? named : ONNXFERRY_TEST_ONNXRUNTIME);
  return loaded.get();
#else
  return nullptr;
#endif
}

}  // namespace onnxferry::testing
