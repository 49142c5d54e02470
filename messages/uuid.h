#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "messages/headers.h"

namespace onnxferry::messages {

using UuidBytes = std::array<std::uint8_t, 16>;

/// The namespace of every name-based id of onnxferry: UUIDv5(RFC 9562 DNS namespace,
/// "onnxferry.dev"). Part of the contract: callers compute reply ids with it.
inline constexpr UuidBytes kUuidNamespace = {
    0xb3, 0x79, 0xba, 0xe4, 0x09, 0xe2, 0x50, 0x8b, 0xb4, 0x69, 0xfe, 0x34, 0x35, 0x6c, 0xdd, 0x33};

/// Name-based UUID, version 5 (SHA-1). Source: RFC 9562 section 5.5.
/// \return 36 characters, lower case
std::string uuid5(const UuidBytes& name_space, std::string_view name);

/// A random UUID, version 4. Source: RFC 9562 section 5.4.
std::string uuid4();

/// uuid5(kUuidNamespace, "<request_id>/<ce_type>"): the ce_id of the one event of that type.
std::string event_id(std::string_view request_id, std::string_view ce_type);

/// uuid5(kUuidNamespace, "<request_id>/<ce_type>/<sequence>"), where there are several.
std::string event_id(std::string_view request_id, std::string_view ce_type, std::uint64_t sequence);

/// The request id of a record that names none: uuid5(kUuidNamespace,
/// "<topic>/<partition>/<offset>").
std::string position_id(const RecordPosition& position);

}  // namespace onnxferry::messages
