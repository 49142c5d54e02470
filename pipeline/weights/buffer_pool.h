#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace onnxferry {

/// Uninitialised bytes on their own pages, in huge pages where the system offers them. Never less
/// than one byte. Thread: as a plain value.
class PageBuffer {
 public:
  /// \throws std::bad_alloc
  explicit PageBuffer(std::size_t bytes);
  [[nodiscard]] std::span<std::byte> bytes() const { return {memory_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t size_;
};

/// Scratch memory that is used again from tensor to tensor: fresh pages cost more than the
/// conversion that goes through them. Thread: one.
class BufferPool {
 public:
  /// A buffer on loan; goes back to the pool at the end of its life, before the pool's.
  class Loan {
   public:
    Loan(BufferPool& pool, std::size_t bytes);
    Loan(Loan&& other) noexcept = default;
    Loan& operator=(Loan&&) = delete;
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    ~Loan();
    /// At least as many bytes as asked for.
    [[nodiscard]] std::span<std::byte> bytes() const { return buffer_->bytes(); }

   private:
    BufferPool* pool_;
    std::unique_ptr<PageBuffer> buffer_;
  };

 private:
  std::vector<std::unique_ptr<PageBuffer>> free_;
};

}  // namespace onnxferry
