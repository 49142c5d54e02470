#include "pipeline/weights/buffer_pool.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

#include <sys/mman.h>

namespace onnxferry {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

PageBuffer::PageBuffer(std::size_t bytes) {
  const std::size_t alignment = bytes < kHugePage ? kPage : kHugePage;
  const std::size_t pages = std::max<std::size_t>(1, (bytes + kPage - 1) / kPage);
  size_ = pages * kPage;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, size_) != 0) {
    throw std::bad_alloc();
  }
  memory_.reset(static_cast<std::byte*>(memory));
  if (alignment == kHugePage) {
    madvise(memory, size_, MADV_HUGEPAGE);  // a wish: without huge pages it is only slower
  }
}

void PageBuffer::Free::operator()(std::byte* memory) const {
  std::free(memory);  // NOLINT(cppcoreguidelines-no-malloc): the counterpart of posix_memalign
}

BufferPool::Loan::Loan(BufferPool& pool, std::size_t bytes) : pool_(&pool) {
  const auto size_of = [](const std::unique_ptr<PageBuffer>& buffer) {
    return buffer->bytes().size();
  };
  auto& free = pool.free_;  // smallest first
  const auto fits = std::ranges::lower_bound(free, bytes, {}, size_of);
  if (fits != free.end()) {
    buffer_ = std::move(*fits);
    free.erase(fits);
    return;
  }
  if (!free.empty()) {  // replace one that is too small, so that the pool never outgrows its use
    free.pop_back();
  }
  buffer_ = std::make_unique<PageBuffer>(bytes);
}

BufferPool::Loan::~Loan() {
  if (buffer_ != nullptr) {
    auto& free = pool_->free_;
    const auto larger = std::ranges::find_if(
        free, [&](const auto& other) { return other->bytes().size() >= buffer_->bytes().size(); });
    free.insert(larger, std::move(buffer_));
  }
}

}  // namespace onnxferry
