#include "messages/uuid.h"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

namespace onnxferry::messages {
namespace {

/// Set version and variant and print. Source: RFC 9562 sections 4.1, 4.2 and 4.
std::string to_string(UuidBytes bytes, unsigned version) {
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0fU) | (version << 4U));
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3fU) | 0x80U);
  std::string text;
  text.reserve(36);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) {
      text += '-';
    }
    fmt::format_to(std::back_inserter(text), "{:02x}", bytes.at(i));
  }
  return text;
}

}  // namespace

std::string uuid5(const UuidBytes& name_space, std::string_view name) {
  std::string input(name_space.begin(), name_space.end());
  input += name;
  std::array<std::uint8_t, SHA_DIGEST_LENGTH> digest{};
  const std::basic_string<unsigned char> bytes(input.begin(), input.end());
  SHA1(bytes.data(), bytes.size(), digest.data());
  UuidBytes uuid{};
  std::copy_n(digest.begin(), uuid.size(), uuid.begin());
  return to_string(uuid, 5);
}

std::string uuid4() {
  UuidBytes uuid{};
  if (RAND_bytes(uuid.data(), static_cast<int>(uuid.size())) != 1) {
    throw std::runtime_error("no random bytes from the system");
  }
  return to_string(uuid, 4);
}

std::string event_id(std::string_view request_id, std::string_view ce_type) {
  return uuid5(kUuidNamespace, fmt::format("{}/{}", request_id, ce_type));
}

std::string event_id(std::string_view request_id,
                     std::string_view ce_type,
                     std::uint64_t sequence) {
  return uuid5(kUuidNamespace, fmt::format("{}/{}/{}", request_id, ce_type, sequence));
}

std::string position_id(const RecordPosition& position) {
  return uuid5(kUuidNamespace,
               fmt::format("{}/{}/{}", position.topic, position.partition, position.offset));
}

}  // namespace onnxferry::messages
