#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace onnxferry {

/// What an S3 server says of a failure. All fields may be empty: not every reply has XML.
struct S3ErrorInfo {
  std::string code;
  std::string message;
  std::string request_id;
  std::string region;    ///< the expected one, with AuthorizationHeaderMalformed
  std::string endpoint;  ///< the host to ask instead, with PermanentRedirect
};

/// The root element's name without its prefix; empty for what is not XML.
std::string xml_root_name(std::string_view body);
S3ErrorInfo parse_s3_error(std::string_view body);

/// nullopt when the root element is not InitiateMultipartUploadResult or holds no id.
std::optional<std::string> parse_upload_id(std::string_view body);

struct KeyPage {
  std::vector<std::string> keys;
  std::string next_token;  ///< empty on the last page
};
/// One page of ListObjectsV2, asked for with encoding-type=url: keys are decoded when the server
/// says that it encoded them (some do not) and when they then still begin with `prefix`.
/// nullopt when it is not such a page.
std::optional<KeyPage> parse_key_page(std::string_view body, std::string_view prefix);

struct PendingUpload {
  std::string key;
  std::string upload_id;
};
struct UploadPage {
  std::vector<PendingUpload> uploads;
  std::string next_key_marker;  ///< empty on the last page
  std::string next_upload_id_marker;
};
/// One page of ListMultipartUploads, same rules.
std::optional<UploadPage> parse_upload_page(std::string_view body, std::string_view prefix);

struct CompletedPart {
  std::string etag;
  std::string checksum;  ///< base64; empty: none
};
/// The body of CompleteMultipartUpload: parts in order, from number 1.
/// \param checksum_name  element for the checksums, e.g. "ChecksumCRC32C"; empty: leave them out
std::string complete_upload_body(const std::vector<CompletedPart>& parts,
                                 std::string_view checksum_name);

}  // namespace onnxferry
