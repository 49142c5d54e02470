#include "worker/failpoint.h"

#include <csignal>
#include <string>

#include "worker/environment.h"

namespace onnxferry {

bool is_failpoint(std::string_view name) {
  static const std::string kActive = process_environment("ONNXFERRY_FAILPOINT").value_or("");
  return !kActive.empty() && kActive == name;
}

void failpoint(std::string_view name) {
  if (is_failpoint(name)) {
    (void)std::raise(SIGKILL);
  }
}

}  // namespace onnxferry
