#include "worker/event_loop.h"

#include <array>
#include <utility>

#include <sys/epoll.h>
#include <unistd.h>

#include "pipeline/error.h"

namespace onnxferry {

EventLoop::EventLoop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  EXPORT_CHECK(epoll_ >= 0, "epoll_create1 failed");
}

EventLoop::~EventLoop() {
  ::close(epoll_);
}

void EventLoop::add(int descriptor, Callback callback) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = descriptor;
  EXPORT_CHECK(::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) == 0, "epoll_ctl failed");
  callbacks_[descriptor] = std::make_shared<Callback>(std::move(callback));
}

void EventLoop::remove(int descriptor) {
  if (callbacks_.erase(descriptor) != 0) {
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, descriptor, nullptr);
  }
}

void EventLoop::turn(std::chrono::milliseconds timeout) {
  std::array<epoll_event, 32> events{};
  const int count = ::epoll_wait(
      epoll_, events.data(), static_cast<int>(events.size()), static_cast<int>(timeout.count()));
  for (int i = 0; i < count; ++i) {
    // An earlier callback of this turn may have removed it; a held one outlives its own removal.
    const auto found = callbacks_.find(events.at(static_cast<std::size_t>(i)).data.fd);
    if (found != callbacks_.end()) {
      const std::shared_ptr<Callback> callback = found->second;
      (*callback)();
    }
  }
}

}  // namespace onnxferry
