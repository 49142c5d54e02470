#pragma once

#include <thread>

#include "worker/health.h"
#include "worker/mailbox.h"

namespace onnxferry {

/// Tells the service manager (systemd, Type=notify) that the worker is up, what it does, that it
/// stops, and, as long as the poll loop turns, that it lives (WatchdogSec=). Does nothing where no
/// service manager has set NOTIFY_SOCKET. READY does not wait for Kafka: an outage of the broker is
/// no reason to fail a start and try again.
class ServiceManager {
 public:
  explicit ServiceManager(const Health& health);
  ~ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

 private:
  void watch();

  const Health& health_;
  WakeUp end_;
  std::thread thread_;
};

}  // namespace onnxferry
