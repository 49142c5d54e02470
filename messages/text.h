#pragma once

#include <span>
#include <string>
#include <string_view>

namespace google::protobuf {
class Message;
}

namespace onnxferry::messages {

/// The candidate nearest to a misspelt word, or "" when none is near (Levenshtein distance, letter
/// case free, at most a third of the word, nothing but case
/// in words below four letters).
std::string_view find_nearest(std::string_view word, std::span<const std::string_view> candidates);

/// `; did you mean "…"?`, or "" when nothing is near.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates);

/// Text from outside, quoted for a message: control characters as \xNN, invalid UTF-8 replaced,
/// shortened to `max_bytes`.
std::string quote(std::string_view text, std::size_t max_bytes = 80);

/// Replace every byte sequence that is not UTF-8 by U+FFFD. File names from archives may hold
/// anything; a proto3 string may not.
std::string to_valid_utf8(std::string_view text);

/// The same for every string of a message.
void make_utf8_valid(google::protobuf::Message& message);

/// The longest prefix of at most `max_bytes` that does not end inside a character.
/// \pre `text` is UTF-8
std::string_view utf8_prefix(std::string_view text, std::size_t max_bytes);

}  // namespace onnxferry::messages
