#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/storage/object_store.h"
#include "pipeline/storage/store_config.h"

namespace onnxferry {

/// 4 or 16 bytes, network order.
using IpAddress = std::vector<std::uint8_t>;

/// An IPv4 address in any form that resolvers take ("127.0.0.1", "127.1", "0x7f000001") or an IPv6
/// address, with or without brackets; nullopt for names.
std::optional<IpAddress> parse_ip_address(std::string_view text);
std::string to_string(const IpAddress& address);

/// What kind of address it is that a request from outside may not reach: "loopback", "link-local",
/// "unspecified", "multicast" or "cloud metadata"; empty for all others. IPv6 addresses that stand
/// for an IPv4 one (mapped, NAT64, 6to4) are judged as that.
std::string_view local_kind(const IpAddress& address);

/// "localhost", its subdomains and literal loopback addresses.
bool is_loopback_name(std::string_view host);

/// Shell-style: '*' stands for any text, '?' for one character.
bool matches_glob(std::string_view text, std::string_view pattern);

/// The host of an origin ("https://host:8443", "http://[::1]"), without port and brackets.
std::string_view host_of(std::string_view origin);

/// Whether the operator lets requests name this object, judged by the URI alone.
/// \return why not, with what to do; empty when it may be opened
std::string refusal_of(const ObjectUri& uri, const StoreConfig& config);

/// Whether the addresses that an https:// origin resolves to must be checked before connecting.
/// The operator's own endpoint may be anywhere.
bool must_check_addresses(std::string_view origin, const StoreConfig& config);

}  // namespace onnxferry
