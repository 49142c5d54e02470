#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace onnxferry {

using Sha256 = std::array<std::uint8_t, 32>;
using Md5 = std::array<std::uint8_t, 16>;

Sha256 sha256(std::string_view bytes);
Md5 md5(std::string_view bytes);
Sha256 hmac_sha256(std::span<const std::uint8_t> key, std::string_view bytes);

/// A digest over bytes that arrive in pieces. Thread: one at a time.
class DigestStream {
 public:
  enum class Kind : std::uint8_t { kSha256, kMd5 };
  explicit DigestStream(Kind kind);
  DigestStream(const DigestStream&) = delete;
  DigestStream& operator=(const DigestStream&) = delete;
  ~DigestStream();

  void update(std::string_view bytes);
  /// \pre made with kSha256; ends the stream
  Sha256 finish_sha256();
  /// \pre made with kMd5; ends the stream
  Md5 finish_md5();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace onnxferry
