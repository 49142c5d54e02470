#include "pipeline/version.h"

namespace onnxferry {

std::string_view version() {
  return ONNXFERRY_VERSION;
}

}  // namespace onnxferry
