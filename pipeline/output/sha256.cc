#include "pipeline/output/sha256.h"

#include <array>
#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <openssl/evp.h>

#include "pipeline/error.h"
#include "pipeline/output/disk_file.h"
#include "pipeline/weights/buffer_pool.h"

namespace onnxferry {

void Sha256::Free::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  EXPORT_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1,
               "libcrypto has no sha256");
}

void Sha256::update(std::span<const std::byte> bytes) {
  EXPORT_CHECK(context_ != nullptr, "sha256 goes on after its end");
  EXPORT_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1, "sha256 failed");
}

std::string Sha256::finish() {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::array<unsigned char, 32> digest{};
  EXPORT_CHECK(context_ != nullptr, "sha256 ends twice");
  EXPORT_CHECK(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1, "sha256 failed");
  context_.reset();
  std::string hex;
  hex.reserve(digest.size() * 2);
  for (const unsigned byte : digest) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 0xf];
  }
  return hex;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(bytes)));
  return hash.finish();
}

FileReport hash_file(const std::filesystem::path& path) {
  constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
  const DiskFile file(path, O_RDONLY);
  const PageBuffer buffer(kBufferBytes);
  FileReport report;
  report.name = path.filename().string();
  Sha256 hash;
  while (const std::size_t count = file.read(buffer.bytes())) {
    hash.update(buffer.bytes().first(count));
    report.bytes += count;
  }
  report.sha256 = hash.finish();
  return report;
}

}  // namespace onnxferry
