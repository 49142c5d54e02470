#include "pipeline/storage/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

template <typename Digest>
Digest digest_of(std::string_view bytes, const EVP_MD* kind) {
  Digest digest{};
  EXPORT_CHECK(EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, kind, nullptr) == 1,
               "a digest could not be computed");
  return digest;
}

}  // namespace

Sha256 sha256(std::string_view bytes) {
  return digest_of<Sha256>(bytes, EVP_sha256());
}

Md5 md5(std::string_view bytes) {
  return digest_of<Md5>(bytes, EVP_md5());
}

Sha256 hmac_sha256(std::span<const std::uint8_t> key, std::string_view bytes) {
  Sha256 code{};
  unsigned int length = 0;
  const auto* const data = reinterpret_cast<const unsigned char*>(bytes.data());
  EXPORT_CHECK(HMAC(EVP_sha256(),
                    key.data(),
                    static_cast<int>(key.size()),
                    data,
                    bytes.size(),
                    code.data(),
                    &length) != nullptr,
               "an HMAC could not be computed");
  return code;
}

struct DigestStream::State {
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};
};

DigestStream::DigestStream(Kind kind) : state_(std::make_unique<State>()) {
  const EVP_MD* type = kind == Kind::kSha256 ? EVP_sha256() : EVP_md5();
  EXPORT_CHECK(EVP_DigestInit_ex(state_->context.get(), type, nullptr) == 1,
               "a digest could not be started");
}

DigestStream::~DigestStream() = default;

void DigestStream::update(std::string_view bytes) {
  EXPORT_CHECK(EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1,
               "a digest could not be continued");
}

Sha256 DigestStream::finish_sha256() {
  EXPORT_CHECK(EVP_MD_CTX_get_size(state_->context.get()) == 32, "not a SHA-256 stream");
  Sha256 digest{};
  EVP_DigestFinal_ex(state_->context.get(), digest.data(), nullptr);
  return digest;
}

Md5 DigestStream::finish_md5() {
  EXPORT_CHECK(EVP_MD_CTX_get_size(state_->context.get()) == 16, "not an MD5 stream");
  Md5 digest{};
  EVP_DigestFinal_ex(state_->context.get(), digest.data(), nullptr);
  return digest;
}

}  // namespace onnxferry
