#include "pipeline/output/hash_thread.h"

#include <utility>

#include <pthread.h>

namespace onnxferry {

HashThread::HashThread(std::size_t buffers, std::size_t buffer_bytes) {
  for (std::size_t i = 0; i < buffers; ++i) {
    free_.push_back(buffers_.emplace_back(std::make_unique<PageBuffer>(buffer_bytes)).get());
  }
  thread_ = std::thread([this] { work(); });
  pthread_setname_np(thread_.native_handle(), "hash");
}

HashThread::~HashThread() {
  {
    const std::scoped_lock lock(mutex_);
    is_stopping_ = true;
    queue_.clear();
  }
  submitted_.notify_one();
  thread_.join();
}

PageBuffer& HashThread::take() {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [this] { return failure_ || !free_.empty(); });
  if (failure_) {
    std::rethrow_exception(failure_);
  }
  PageBuffer& buffer = *free_.back();
  free_.pop_back();
  return buffer;
}

void HashThread::submit(PageBuffer& buffer, std::size_t bytes, Sha256& hash) {
  {
    const std::scoped_lock lock(mutex_);
    queue_.push_back({&buffer, bytes, &hash});
  }
  submitted_.notify_one();
}

void HashThread::drain() {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [this] { return failure_ || (queue_.empty() && !is_busy_); });
  if (failure_) {
    std::rethrow_exception(failure_);
  }
}

void HashThread::abandon() noexcept {
  std::unique_lock lock(mutex_);
  for (const Item& item : queue_) {
    free_.push_back(item.buffer);
  }
  queue_.clear();
  finished_.wait(lock, [this] { return !is_busy_; });
}

void HashThread::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    submitted_.wait(lock, [this] { return is_stopping_ || !queue_.empty(); });
    if (is_stopping_) {
      return;
    }
    const Item item = queue_.front();
    queue_.pop_front();
    is_busy_ = true;
    lock.unlock();
    std::exception_ptr failure;
    try {
      item.hash->update(item.buffer->bytes().first(item.bytes));
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    is_busy_ = false;
    failure_ = failure_ ? failure_ : failure;
    free_.push_back(item.buffer);
    finished_.notify_one();
  }
}

}  // namespace onnxferry
