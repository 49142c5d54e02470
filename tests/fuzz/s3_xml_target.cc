#include "pipeline/error.h"
#include "pipeline/storage/s3_xml.h"
#include "tests/fuzz/targets.h"

namespace onnxferry::fuzz {

/// An answer of a server that may be anything on the way. A listed key is below the prefix that was
/// asked for, or the page is refused.
void fuzz_s3_xml(Input input) {
  const std::string_view body = as_text(input);
  static_cast<void>(xml_root_name(body));
  static_cast<void>(parse_s3_error(body));
  static_cast<void>(parse_upload_id(body));
  try {
    static_cast<void>(parse_key_page(body, "out/"));
    static_cast<void>(parse_upload_page(body, "out/"));
  } catch (const Error& error) {
    FUZZ_CHECK(error.code() != ErrorCode::kInternal);
  }
}

}  // namespace onnxferry::fuzz
