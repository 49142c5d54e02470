#include "pipeline/storage/s3_xml.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <pugixml.hpp>

#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

// Line ends inside keys are data, so parse_eol is left out.
constexpr unsigned int kParseFlags = pugi::parse_cdata | pugi::parse_escapes;

std::string_view local_name(const pugi::xml_node& node) {
  const std::string_view name = node.name();
  const std::size_t colon = name.find(':');
  return colon == std::string_view::npos ? name : name.substr(colon + 1);
}

/// The document with the root element `name`, or an empty one.
pugi::xml_document parse_document(std::string_view body) {
  pugi::xml_document document;
  document.load_buffer(body.data(), body.size(), kParseFlags, pugi::encoding_utf8);
  return document;
}

pugi::xml_node child(const pugi::xml_node& parent, std::string_view name) {
  return parent.find_child([&](const pugi::xml_node& node) { return local_name(node) == name; });
}

std::string text_of(const pugi::xml_node& parent, std::string_view name) {
  return child(parent, name).text().get();
}

bool is_true(const pugi::xml_node& parent, std::string_view name) {
  return equals_ignoring_case(trim(text_of(parent, name)), "true");
}

/// Undo encoding-type=url, in which a blank is '+'.
std::string decode_key(std::string key) {
  std::string plus_decoded = key;
  std::ranges::replace(plus_decoded, '+', ' ');
  return uri_decode(plus_decoded).value_or(std::move(key));
}

/// Whether the listed texts are really encoded: the server must say so, and nothing may be in them
/// that encoding leaves out. A server that echoes EncodingType without encoding would otherwise
/// have its '+' and '%' misread.
bool are_encoded(const pugi::xml_node& root,
                 const std::vector<std::string>& listed,
                 std::string_view prefix) {
  if (text_of(root, "EncodingType") != "url") {
    return false;
  }
  return std::ranges::all_of(listed, [&](const std::string& text) {
    const bool is_plain_ascii = std::ranges::all_of(text, [](char c) {
      return static_cast<unsigned char>(c) > 0x20 && (static_cast<unsigned char>(c) < 0x7F);
    });
    return is_plain_ascii && decode_key(text).starts_with(prefix);
  });
}

}  // namespace

std::string xml_root_name(std::string_view body) {
  const pugi::xml_document document = parse_document(body);
  return std::string(local_name(document.document_element()));
}

S3ErrorInfo parse_s3_error(std::string_view body) {
  const pugi::xml_document document = parse_document(body);
  const pugi::xml_node root = document.document_element();
  if (local_name(root) != "Error") {
    return {};
  }
  return {.code = text_of(root, "Code"),
          .message = text_of(root, "Message"),
          .request_id = text_of(root, "RequestId"),
          .region = text_of(root, "Region"),
          .endpoint = text_of(root, "Endpoint")};
}

std::optional<std::string> parse_upload_id(std::string_view body) {
  const pugi::xml_document document = parse_document(body);
  const pugi::xml_node root = document.document_element();
  std::string id = text_of(root, "UploadId");
  if (local_name(root) != "InitiateMultipartUploadResult" || id.empty()) {
    return std::nullopt;
  }
  return id;
}

std::optional<KeyPage> parse_key_page(std::string_view body, std::string_view prefix) {
  const pugi::xml_document document = parse_document(body);
  const pugi::xml_node root = document.document_element();
  if (local_name(root) != "ListBucketResult") {
    return std::nullopt;
  }
  KeyPage page;
  for (const pugi::xml_node& node : root) {
    if (local_name(node) == "Contents") {
      page.keys.push_back(text_of(node, "Key"));
    }
  }
  if (are_encoded(root, page.keys, prefix)) {
    std::ranges::transform(page.keys, page.keys.begin(), decode_key);
  }
  if (is_true(root, "IsTruncated")) {
    page.next_token = text_of(root, "NextContinuationToken");
  }
  return page;
}

std::optional<UploadPage> parse_upload_page(std::string_view body, std::string_view prefix) {
  const pugi::xml_document document = parse_document(body);
  const pugi::xml_node root = document.document_element();
  if (local_name(root) != "ListMultipartUploadsResult") {
    return std::nullopt;
  }
  UploadPage page;
  std::vector<std::string> keys;
  for (const pugi::xml_node& node : root) {
    if (local_name(node) == "Upload") {
      keys.push_back(text_of(node, "Key"));
      page.uploads.push_back({.key = keys.back(), .upload_id = text_of(node, "UploadId")});
    }
  }
  const bool encoded = are_encoded(root, keys, prefix);
  if (encoded) {
    for (PendingUpload& upload : page.uploads) {
      upload.key = decode_key(upload.key);
    }
  }
  if (is_true(root, "IsTruncated")) {
    page.next_key_marker = text_of(root, "NextKeyMarker");
    if (encoded) {
      page.next_key_marker = decode_key(page.next_key_marker);
    }
    page.next_upload_id_marker = text_of(root, "NextUploadIdMarker");
  }
  return page;
}

std::string complete_upload_body(const std::vector<CompletedPart>& parts,
                                 std::string_view checksum_name) {
  std::string body = R"(<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">)";
  int number = 0;
  for (const CompletedPart& part : parts) {
    body += fmt::format(
        "<Part><PartNumber>{}</PartNumber><ETag>&quot;{}&quot;</ETag>", ++number, part.etag);
    if (!checksum_name.empty() && !part.checksum.empty()) {
      body += fmt::format("<{0}>{1}</{0}>", checksum_name, part.checksum);
    }
    body += "</Part>";
  }
  return body + "</CompleteMultipartUpload>";
}

}  // namespace onnxferry
