#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "pipeline/report.h"

struct evp_md_ctx_st;

namespace onnxferry {

/// A SHA-256 that is fed piece by piece. Thread: as a plain value; may move between threads.
/// Source: FIPS 180-4.
class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  /// 64 lower-case hex digits. Call once, at the end.
  [[nodiscard]] std::string finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

/// 64 lower-case hex digits.
std::string sha256_hex(std::string_view bytes);

/// Name (the path's last part), size and sha256 of a file; the caller sets the kind.
///
/// \throws std::filesystem::filesystem_error if it cannot be read
FileReport hash_file(const std::filesystem::path& path);

}  // namespace onnxferry
