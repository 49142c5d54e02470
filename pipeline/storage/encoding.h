#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace onnxferry {

enum class Slash : std::uint8_t { kKeep, kEncode };

/// Percent-encode every byte except A-Z a-z 0-9 - . _ ~, with upper-case hex digits; '/' is kept or
/// encoded as told. This is the one form that signatures are made over and that is sent.
std::string uri_encode(std::string_view text, Slash slash);

/// Undo percent-encoding; a '%' without two hex digits gives nullopt.
std::optional<std::string> uri_decode(std::string_view text);

/// Lower-case hex digits.
std::string to_hex(std::span<const std::uint8_t> bytes);
std::string to_base64(std::span<const std::uint8_t> bytes);

/// ASCII only, independent of the locale.
std::string to_lower(std::string_view text);
bool equals_ignoring_case(std::string_view a, std::string_view b);
std::string_view trim(std::string_view text);

/// Well-formed UTF-8 without overlong forms, surrogates or values past U+10FFFF.
bool is_utf8(std::string_view text);
bool has_control_characters(std::string_view text);

/// Hide secrets in a text that goes to a log, a message or a reply: the values of X-Amz-Signature,
/// X-Amz-Credential, X-Amz-Security-Token, Signature and AWSAccessKeyId (as query parameters,
/// header fields or in an Authorization header) and the user part of URLs become "***".
std::string mask_secrets(std::string_view text);

}  // namespace onnxferry
