#include "worker/serve.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <optional>
#include <thread>

#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "worker/commands.h"
#include "worker/config_options.h"
#include "worker/http_server.h"
#include "worker/log.h"
#include "worker/mailbox.h"
#include "worker/service_manager.h"
#include "worker/worker.h"

namespace onnxferry {
namespace {

/// SIGTERM and SIGINT as calls of Worker::stop, on a thread that does nothing else. They must be
/// blocked in every thread, so this comes before all others.
class StopSignals {
 public:
  StopSignals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    (void)std::signal(SIGPIPE, SIG_IGN);
    descriptor_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    EXPORT_CHECK(descriptor_ >= 0, "signalfd failed");
  }
  ~StopSignals() {
    if (thread_.joinable()) {
      end_.signal();
      thread_.join();
    }
    ::close(descriptor_);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  void forward_to(Worker& worker) {
    thread_ = std::thread([this, &worker] {
      pthread_setname_np(pthread_self(), "signals");
      EventLoop loop;
      bool ended = false;
      loop.add(end_.descriptor(), [&ended] { ended = true; });
      loop.add(descriptor_, [this, &worker] {
        signalfd_siginfo info{};
        while (::read(descriptor_, &info, sizeof(info)) == sizeof(info)) {
          worker.stop();
        }
      });
      while (!ended) {
        loop.turn(std::chrono::milliseconds(10'000));
      }
    });
  }

 private:
  int descriptor_ = -1;
  WakeUp end_;
  std::thread thread_;
};

/// Ends the process when taking librdkafka's handles down takes too long: in some versions that can
/// wait for ever (README.md, "librdkafka versions"). By then nothing unpublished is ours any more.
class TeardownLimit {
 public:
  TeardownLimit() = default;
  ~TeardownLimit() {
    const int exit_code = std::uncaught_exceptions() > 0 ? kExitFailure : kExitOk;
    std::thread([exit_code] {
      std::this_thread::sleep_for(kLimit);
      log(LogLevel::kWarn, "closing the Kafka clients took too long; ending without it");
      std::_Exit(exit_code);
    }).detach();
  }
  TeardownLimit(const TeardownLimit&) = delete;
  TeardownLimit& operator=(const TeardownLimit&) = delete;

 private:
  static constexpr std::chrono::seconds kLimit{15};
};

}  // namespace

int run_worker(const WorkerConfig& config) {
  pthread_setname_np(pthread_self(), "poll");
  configure_log(config);
  log(LogLevel::kDebug, print_config(config));
  for (const std::string& warning : find_unread_variables(environment_list())) {
    log(LogLevel::kWarn, warning);
  }
  Metrics metrics;
  Health health;
  StopSignals signals;
  Worker worker(config, metrics, health);
  const TeardownLimit limit;
  std::optional<HttpServer> http;
  if (!config.http.empty()) {
    http.emplace(config.http, health, metrics);
    log(LogLevel::kInfo, "http server listens", {{"port", std::to_string(http->port())}});
  }
  signals.forward_to(worker);
  const ServiceManager service_manager(health);
  worker.run();
  return kExitOk;
}

}  // namespace onnxferry
