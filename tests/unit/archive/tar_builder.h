#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <zlib.h>

namespace onnxferry {

/// Writes tar bytes field by field, also those that no honest tar program writes.
class TarBuilder {
 public:
  TarBuilder& file(std::string_view name, std::string_view data) {
    return entry(name, '0', data.size()).data(data);
  }
  TarBuilder& directory(std::string_view name) { return entry(name, '5', 0); }
  TarBuilder& link(std::string_view name, char type, std::string_view target) {
    return entry(name, type, 0, target);
  }

  /// A header whose size field claims `bytes`, whatever follows.
  TarBuilder& entry(std::string_view name,
                    char type,
                    std::uint64_t bytes,
                    std::string_view target = {}) {
    return raw_entry(name, type, fmt::format("{:011o}", bytes), target);
  }

  /// The size as base-256 number, as GNU tar writes sizes past 8 GiB.
  TarBuilder& entry_base256(std::string_view name, std::uint64_t bytes) {
    std::string field(12, '\0');
    field[0] = '\x80';
    for (std::size_t i = 0; i < 8; ++i) {
      field[11 - i] = static_cast<char>(bytes >> (8 * i) & 0xFF);
    }
    return raw_entry(name, '0', field, {});
  }

  TarBuilder& data(std::string_view text) {
    bytes_ += text;
    bytes_.append((512 - text.size() % 512) % 512, '\0');
    return *this;
  }

  /// A pax header that overrides `key` of the next entry.
  TarBuilder& pax(std::string_view key, std::string_view value) {
    std::size_t length = key.size() + value.size() + 3;  // " ", "=", newline
    length += fmt::format("{}", length + 3).size();
    while (fmt::format("{} {}={}\n", length, key, value).size() != length) {
      ++length;
    }
    const std::string record = fmt::format("{} {}={}\n", length, key, value);
    return entry("PaxHeaders/x", 'x', record.size()).data(record);
  }

  /// GNU's long name of the next entry.
  TarBuilder& gnu_long_name(std::string_view name) {
    const std::string text = std::string(name) + '\0';
    return entry("././@LongLink", 'L', text.size()).data(text);
  }

  TarBuilder& end() {
    bytes_.append(1024, '\0');
    return *this;
  }
  TarBuilder& raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }

  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  TarBuilder& raw_entry(std::string_view name,
                        char type,
                        std::string_view size,
                        std::string_view target) {
    std::string header(512, '\0');
    const auto put = [&](std::size_t at, std::string_view text) {
      header.replace(at, text.size(), text);
    };
    put(0, name.substr(0, 100));
    put(100, "0000777");
    put(108, "0000000");
    put(116, "0000000");
    put(124, size);
    put(136, "00000000000");
    put(148, "        ");
    header[156] = type;
    put(157, target.substr(0, 100));
    put(257, std::string_view("ustar\00000", 8));
    std::uint32_t sum = 0;
    for (const char c : header) {
      sum += static_cast<unsigned char>(c);
    }
    put(148, fmt::format("{:06o}", sum));
    header[154] = '\0';
    bytes_ += header;
    return *this;
  }

  std::string bytes_;
};

/// One gzip member.
inline std::string gzip(std::string_view text) {
  z_stream stream{};
  if (deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    return {};
  }
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

/// Bytes that do not compress, always the same.
inline std::string noise(std::size_t bytes) {
  std::string text(bytes, '\0');
  std::uint64_t state = 0x9E3779B97F4A7C15;
  for (char& c : text) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    c = static_cast<char>(state >> 32);
  }
  return text;
}

}  // namespace onnxferry
