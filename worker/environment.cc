#include "worker/environment.h"

#include <cstdlib>

namespace onnxferry {

std::optional<std::string> process_environment(std::string_view name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): unsafe only against setenv, which nothing here calls
  const char* value = std::getenv(std::string(name).c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

}  // namespace onnxferry
