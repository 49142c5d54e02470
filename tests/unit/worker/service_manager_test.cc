#include "worker/service_manager.h"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace onnxferry {
namespace {

using testing::HasSubstr;

/// The service manager's end: a datagram socket named by NOTIFY_SOCKET.
class ServiceManagerTest : public testing::Test {
 protected:
  ServiceManagerTest()
      : path_(std::filesystem::path(testing::TempDir()) / "onnxferry-notify"),
        socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    std::filesystem::remove(path_);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path_.string().copy(&address.sun_path[0], sizeof(address.sun_path) - 1);
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the socket interface
    EXPECT_EQ(::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    const timeval limit{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    // NOLINTBEGIN(concurrency-mt-unsafe): no other thread runs yet
    ::setenv("NOTIFY_SOCKET", path_.c_str(), 1);
    ::setenv("WATCHDOG_USEC", "60000", 1);
    // NOLINTEND(concurrency-mt-unsafe)
  }
  ~ServiceManagerTest() override {
    ::close(socket_);
    std::filesystem::remove(path_);
    // NOLINTBEGIN(concurrency-mt-unsafe)
    ::unsetenv("NOTIFY_SOCKET");
    ::unsetenv("WATCHDOG_USEC");
    // NOLINTEND(concurrency-mt-unsafe)
  }

  /// The next message; empty after `limit`.
  std::string receive(int flags = 0) {
    std::array<char, 256> buffer{};
    const ssize_t size = ::recv(socket_, buffer.data(), buffer.size(), flags);
    return {buffer.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
  }
  /// The next message that is not a sign of life.
  std::string receive_news() {
    std::string message = receive();
    while (message == "WATCHDOG=1") {
      message = receive();
    }
    return message;
  }

  std::filesystem::path path_;
  int socket_;
  Health health_;
};

TEST_F(ServiceManagerTest, TellsThatTheWorkerIsUpWhatItDoesAndThatItStops) {
  {
    const ServiceManager manager(health_);
    EXPECT_EQ(receive_news(), "READY=1");  // Kafka may still be away
    EXPECT_THAT(receive_news(), HasSubstr("waiting for the Kafka group"));
    health_.scratch_ok = true;
    health_.group_joined = true;
    EXPECT_THAT(receive_news(), HasSubstr("taking requests"));
    health_.draining = true;
    EXPECT_THAT(receive_news(), HasSubstr("STOPPING=1"));
  }
  EXPECT_EQ(receive_news(), "STOPPING=1");
}

TEST_F(ServiceManagerTest, AHangingPollLoopGivesNoMoreSignsOfLife) {
  const ServiceManager manager(health_);
  EXPECT_EQ(receive_news(), "READY=1");
  std::string message;
  while (message != "WATCHDOG=1") {
    message = receive();
    ASSERT_FALSE(message.empty());
  }
  health_.last_poll_ms = Health::now_ms() - Health::kMaxPollAgeMs;
  ::usleep(50'000);  // one that was on its way
  while (!receive(MSG_DONTWAIT).empty()) {
  }
  ::usleep(200'000);  // ten times the interval
  EXPECT_EQ(receive(MSG_DONTWAIT), "");
}

}  // namespace
}  // namespace onnxferry
