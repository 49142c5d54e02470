#include "pipeline/storage/encoding.h"

#include <algorithm>
#include <array>

namespace onnxferry {
namespace {

constexpr std::string_view kUpperHex = "0123456789ABCDEF";
constexpr std::string_view kLowerHex = "0123456789abcdef";

bool is_unreserved(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

int hex_value(char c) {
  const std::size_t at = kLowerHex.find(lower(c));
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

/// The length of the well-formed UTF-8 sequence at the start of `text`, or 0.
std::size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) {
    return 1;
  }
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) {
      return 0;
    }
  }
  const unsigned second = byte(1);
  const bool is_bad = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
                      (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);
  return is_bad ? 0 : length;
}

// Longer names come first, so that "X-Amz-Signature" is not taken for "Signature".
constexpr std::array<std::string_view, 8> kSecretNames = {"x-amz-security-token",
                                                          "x-amz-credential",
                                                          "x-amz-signature",
                                                          "x-goog-credential",
                                                          "x-goog-signature",
                                                          "awsaccesskeyid",
                                                          "credential",
                                                          "signature"};
// Words that mean a secret only as the name of a query parameter (Azure's "sig", tokens of hubs).
constexpr std::array<std::string_view, 4> kSecretParameters = {
    "access_token", "token", "sig", "apikey"};

bool is_name_character(char c) {
  return is_unreserved(c) && c != '.' && c != '~';
}

/// The bytes from `at` to the value of a secret (its name and separator: '=', ':', '":"' or "%3d"),
/// or 0 when no secret begins here.
std::size_t secret_prefix(std::string_view lower_text, std::size_t at) {
  const bool follows_escape = at >= 3 && lower_text[at - 3] == '%';  // "%26x-amz-signature"
  if (at > 0 && is_name_character(lower_text[at - 1]) && !follows_escape) {
    return 0;
  }
  const std::string_view rest = lower_text.substr(at);
  if (at > 0 && (lower_text[at - 1] == '?' || lower_text[at - 1] == '&')) {
    for (const std::string_view name : kSecretParameters) {
      if (rest.starts_with(name) && rest.substr(name.size()).starts_with('=')) {
        return name.size() + 1;
      }
    }
  }
  for (const std::string_view name : kSecretNames) {
    if (!rest.starts_with(name)) {
      continue;
    }
    std::size_t end = name.size();
    end += rest.substr(end).starts_with('"') ? 1 : 0;
    const std::string_view separator = rest.substr(end);
    if (separator.starts_with("%3d")) {
      return end + 3;
    }
    if (separator.starts_with('=') || separator.starts_with(':')) {
      const std::size_t value = rest.find_first_not_of(" \"", end + 1);
      return value == std::string_view::npos ? rest.size() : value;
    }
  }
  return 0;
}

std::string mask_user_parts(std::string_view text) {
  std::string masked;
  std::size_t at = 0;
  while (true) {
    const std::size_t scheme = text.find("://", at);
    if (scheme == std::string_view::npos) {
      return masked.append(text.substr(at));
    }
    const std::size_t host = scheme + 3;
    const std::size_t end = std::min(text.find_first_of("/?# \t\r\n\"'<>", host), text.size());
    const std::size_t sign = text.substr(host, end - host).rfind('@');
    masked.append(text.substr(at, host - at));
    at = host;
    if (sign != std::string_view::npos) {
      masked.append("***");
      at = host + sign;
    }
  }
}

}  // namespace

std::string uri_encode(std::string_view text, Slash slash) {
  std::string encoded;
  encoded.reserve(text.size());
  for (const char c : text) {
    if (is_unreserved(c) || (c == '/' && slash == Slash::kKeep)) {
      encoded += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      encoded += '%';
      encoded += kUpperHex[byte >> 4U];
      encoded += kUpperHex[byte & 0x0FU];
    }
  }
  return encoded;
}

std::optional<std::string> uri_decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size() || hex_value(text[i + 1]) < 0 || hex_value(text[i + 2]) < 0) {
      return std::nullopt;
    }
    decoded += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
    i += 2;
  }
  return decoded;
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const std::uint8_t byte : bytes) {
    hex += kLowerHex[byte >> 4U];
    hex += kLowerHex[byte & 0x0FU];
  }
  return hex;
}

std::string to_base64(std::span<const std::uint8_t> bytes) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = (group << 8U) | (k < count ? bytes[i + k] : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      text += k <= count ? kAlphabet[(group >> (18 - 6 * k)) & 0x3FU] : '=';
    }
  }
  return text;
}

std::string to_lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), lower);
  return result;
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_sequence(text);
    if (length == 0) {
      return false;
    }
    text.remove_prefix(length);
  }
  return true;
}

bool has_control_characters(std::string_view text) {
  return std::ranges::any_of(
      text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

std::string mask_secrets(std::string_view text) {
  const std::string plain = mask_user_parts(text);
  const std::string lower_text = to_lower(plain);
  std::string masked;
  std::size_t at = 0;
  while (at < plain.size()) {
    const std::size_t prefix = secret_prefix(lower_text, at);
    if (prefix == 0) {
      masked += plain[at++];
      continue;
    }
    masked.append(plain, at, prefix).append("***");
    at = std::min(plain.find_first_of("&, \t\r\n\"'<>;)", at + prefix), plain.size());
  }
  return masked;
}

}  // namespace onnxferry
