#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "pipeline/output/sha256.h"
#include "pipeline/weights/buffer_pool.h"

namespace onnxferry {

/// Hashes buffers on a thread of its own while their owner goes on, in the order submitted. Owns a
/// fixed set of buffers: whoever fills them waits when all are behind.
///
///   PageBuffer& buffer = thread.take();  // fill it …
///   thread.submit(buffer, size, hash);   // … it may still be read, not written
///   thread.drain();                      // hash has seen everything
///
/// Thread: one owner calls these; the destructor waits for the buffer in work and drops the rest.
class HashThread {
 public:
  HashThread(std::size_t buffers, std::size_t buffer_bytes);
  HashThread(const HashThread&) = delete;
  HashThread& operator=(const HashThread&) = delete;
  ~HashThread();

  /// Wait for a free buffer. \throws what hashing threw
  PageBuffer& take();
  /// Queue the buffer's first `bytes` bytes for `hash`, which must outlive the next drain().
  void submit(PageBuffer& buffer, std::size_t bytes, Sha256& hash);
  /// Wait until everything submitted is hashed. \throws what hashing threw
  void drain();
  /// Drop what is queued and wait for the buffer in work: no hash is touched afterwards.
  void abandon() noexcept;

 private:
  struct Item {
    PageBuffer* buffer;
    std::size_t bytes;
    Sha256* hash;
  };

  void work();

  std::vector<std::unique_ptr<PageBuffer>> buffers_;
  std::mutex mutex_;  ///< guards everything below it
  std::condition_variable submitted_;
  std::condition_variable finished_;
  std::vector<PageBuffer*> free_;
  std::deque<Item> queue_;
  bool is_busy_ = false;
  bool is_stopping_ = false;
  std::exception_ptr failure_;
  std::thread thread_;  // last: starts when everything else exists
};

}  // namespace onnxferry
