#include "bench/export/baseline.h"

#include <array>
#include <memory>
#include <stdexcept>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/evp.h>
#include <unistd.h>

namespace onnxferry::bench {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;

void require(bool condition, const char* what) {
  if (!condition) {
    throw std::runtime_error(std::string("baseline: ") + what + " failed");
  }
}

}  // namespace

void run_baseline(const std::filesystem::path& in,
                  const std::filesystem::path& out,
                  std::uint64_t out_bytes) {
  const std::uint64_t in_bytes = std::filesystem::file_size(in);
  const int source = ::open(in.c_str(), O_RDONLY | O_CLOEXEC);
  const int target = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  require(source >= 0 && target >= 0, "open");
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> hash(EVP_MD_CTX_new(),
                                                                     EVP_MD_CTX_free);
  require(EVP_DigestInit_ex(hash.get(), EVP_sha256(), nullptr) == 1, "sha256");
  std::vector<unsigned char> piece(kPiece);
  std::uint64_t done_in = 0;
  std::uint64_t done_out = 0;
  while (done_in < in_bytes) {
    const ssize_t count = ::read(source, piece.data(), piece.size());
    require(count > 0, "read");
    done_in += static_cast<std::uint64_t>(count);
    // As much output as belongs to this share of the input; the last piece brings the rest.
    const auto share = static_cast<double>(done_in) / static_cast<double>(in_bytes);
    const std::uint64_t goal =
        done_in == in_bytes ? out_bytes
                            : static_cast<std::uint64_t>(share * static_cast<double>(out_bytes));
    while (done_out < goal) {
      const std::size_t bytes = std::min<std::uint64_t>(goal - done_out, piece.size());
      require(::write(target, piece.data(), bytes) == static_cast<ssize_t>(bytes), "write");
      require(EVP_DigestUpdate(hash.get(), piece.data(), bytes) == 1, "sha256");
      done_out += bytes;
    }
  }
  std::array<unsigned char, 32> digest{};
  require(EVP_DigestFinal_ex(hash.get(), digest.data(), nullptr) == 1, "sha256");
  require(::close(source) == 0 && ::close(target) == 0, "close");
  fmt::print("{:02x}\n", fmt::join(digest, ""));
}

}  // namespace onnxferry::bench
