#pragma once

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include <sys/eventfd.h>
#include <unistd.h>

#include "pipeline/error.h"

namespace onnxferry {

/// A non-blocking eventfd: another thread's way to wake an epoll loop.
class WakeUp {
 public:
  WakeUp() : descriptor_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    EXPORT_CHECK(descriptor_ >= 0, "eventfd failed");
  }
  ~WakeUp() { ::close(descriptor_); }
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;

  [[nodiscard]] int descriptor() const { return descriptor_; }
  /// A full counter means that the loop is going to wake up anyway.
  void signal() const {
    const std::uint64_t one = 1;
    (void)!::write(descriptor_, &one, sizeof(one));
  }
  void clear() const {
    std::uint64_t count = 0;
    (void)!::read(descriptor_, &count, sizeof(count));
  }

 private:
  int descriptor_;
};

/// Values from other threads to the loop that watches `descriptor()`. Thread: push any, take one.
template <typename T>
class Mailbox {
 public:
  void push(T value) {
    {
      const std::scoped_lock lock(mutex_);
      values_.push_back(std::move(value));
    }
    wake_up_.signal();
  }
  std::vector<T> take() {
    wake_up_.clear();
    const std::scoped_lock lock(mutex_);
    return std::exchange(values_, {});
  }
  [[nodiscard]] int descriptor() const { return wake_up_.descriptor(); }

 private:
  WakeUp wake_up_;
  std::mutex mutex_;
  std::vector<T> values_;
};

}  // namespace onnxferry
