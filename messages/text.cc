#include "messages/text.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include <fmt/format.h>
#include <google/protobuf/map_field.h>
#include <google/protobuf/message.h>

namespace onnxferry::messages {
namespace {

constexpr std::size_t kMaxWordBytes = 64;  // longer words are not misspelt, they are something else
constexpr std::size_t kMinWordBytes = 4;
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0U);
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t cost = lower(a[i]) == lower(b[j]) ? 0 : 1;
      const std::size_t best = std::min({row[j] + 1, row[j + 1] + 1, diagonal + cost});
      diagonal = row[j + 1];
      row[j + 1] = best;
    }
  }
  return row.back();
}

std::uint8_t byte_at(std::string_view text, std::size_t at) {
  return static_cast<std::uint8_t>(text[at]);
}

/// Length of the UTF-8 character at `at`, or 0 when there is none.
/// Source: Unicode 15 table 3-7 (no overlong forms, no surrogates, nothing past U+10FFFF).
std::size_t utf8_length(std::string_view text, std::size_t at) {
  const std::uint8_t first = byte_at(text, at);
  if (first < 0x80) {
    return 1;
  }
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() - at < length) {
    return 0;
  }
  const std::uint8_t second = byte_at(text, at + 1);
  const std::uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const std::uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (second < low || second > high) {
    return 0;
  }
  for (std::size_t i = 2; i < length; ++i) {
    if ((byte_at(text, at + i) & 0xC0U) != 0x80U) {
      return 0;
    }
  }
  return length;
}

void make_field_valid(google::protobuf::Message& message,
                      const google::protobuf::FieldDescriptor& field) {
  using google::protobuf::FieldDescriptor;
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const bool is_message = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  if (!is_message && field.type() != FieldDescriptor::TYPE_STRING) {
    return;
  }
  const int count = field.is_repeated() ? reflection.FieldSize(message, &field) : 1;
  for (int i = 0; i < count; ++i) {
    if (is_message) {
      make_utf8_valid(field.is_repeated() ? *reflection.MutableRepeatedMessage(&message, &field, i)
                                          : *reflection.MutableMessage(&message, &field));
    } else if (field.is_repeated()) {
      reflection.SetRepeatedString(
          &message, &field, i, to_valid_utf8(reflection.GetRepeatedString(message, &field, i)));
    } else {
      reflection.SetString(&message, &field, to_valid_utf8(reflection.GetString(message, &field)));
    }
  }
}

}  // namespace

std::string_view find_nearest(std::string_view word, std::span<const std::string_view> candidates) {
  std::string_view nearest;
  if (word.size() > kMaxWordBytes) {
    return nearest;
  }
  // Of a short word one other letter makes another word ("gpu" is no typo of "cpu"): only its case.
  std::size_t best = (word.size() < kMinWordBytes ? 0 : word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    const std::size_t found = distance(word, candidate);
    if (found < best) {
      best = found;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates) {
  const std::string_view nearest = find_nearest(word, candidates);
  return nearest.empty() ? "" : fmt::format("; did you mean \"{}\"?", nearest);
}

std::string quote(std::string_view text, std::size_t max_bytes) {
  const std::string valid = to_valid_utf8(text.substr(0, max_bytes + 4));
  const std::string_view shown = utf8_prefix(valid, max_bytes);
  std::string out = "\"";
  for (const char c : shown) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte < 0x20 || byte == 0x7F) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + (text.size() > max_bytes ? "…\"" : "\"");
}

std::string to_valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text, at);
    if (length == 0) {
      out += kReplacement;
      ++at;
    } else {
      out += text.substr(at, length);
      at += length;
    }
  }
  return out;
}

void make_utf8_valid(google::protobuf::Message& message) {
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const auto* field : fields) {
    make_field_valid(message, *field);
  }
}

std::string_view utf8_prefix(std::string_view text, std::size_t max_bytes) {
  if (text.size() <= max_bytes) {
    return text;
  }
  std::size_t end = max_bytes;
  while (end > 0 && (byte_at(text, end) & 0xC0U) == 0x80U) {
    --end;
  }
  return text.substr(0, end);
}

}  // namespace onnxferry::messages
