#include "worker/service_manager.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <pthread.h>
#include <systemd/sd-daemon.h>

#include "worker/event_loop.h"

namespace onnxferry {
namespace {

const char* describe(const Health& health) {
  if (health.draining) {
    return "STOPPING=1\nSTATUS=finishing the running jobs";
  }
  if (!health.group_joined) {
    return "STATUS=waiting for the Kafka group";
  }
  return health.scratch_ok ? "STATUS=taking requests"
                           : "STATUS=waiting for room in the scratch folder";
}

/// How often to look: often enough for the watchdog (which wants half its limit) and for STATUS.
std::chrono::milliseconds interval() {
  constexpr std::chrono::milliseconds kLongest{1'000};
  std::uint64_t limit_us = 0;
  if (sd_watchdog_enabled(/*unset_environment=*/0, &limit_us) <= 0) {
    return kLongest;
  }
  return std::clamp(
      std::chrono::milliseconds(limit_us / 3'000), std::chrono::milliseconds(10), kLongest);
}

}  // namespace

ServiceManager::ServiceManager(const Health& health) : health_(health) {
  if (std::getenv("NOTIFY_SOCKET") != nullptr) {  // NOLINT(concurrency-mt-unsafe): nobody sets it
    thread_ = std::thread([this] { watch(); });
  }
}

ServiceManager::~ServiceManager() {
  if (thread_.joinable()) {
    end_.signal();
    thread_.join();
  }
}

void ServiceManager::watch() {
  pthread_setname_np(pthread_self(), "service-manager");
  const std::chrono::milliseconds pause = interval();
  EventLoop loop;
  bool ended = false;
  loop.add(end_.descriptor(), [&ended] { ended = true; });
  sd_notify(/*unset_environment=*/0, "READY=1");
  std::string_view told;
  while (!ended) {
    // A loop that hangs must look dead here too, so nothing but its own heartbeat counts.
    if (health_.is_live()) {
      sd_notify(0, "WATCHDOG=1");
    }
    if (const char* const state = describe(health_); state != told) {
      told = state;
      sd_notify(0, state);
    }
    loop.turn(pause);
  }
  sd_notify(0, "STOPPING=1");
}

}  // namespace onnxferry
