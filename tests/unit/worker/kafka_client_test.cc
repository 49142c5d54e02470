#include "worker/kafka_client.h"

#include <cstdio>
#include <cstdlib>

#include <gtest/gtest.h>

namespace onnxferry {
namespace {

void say_at_exit() {
  static_cast<void>(std::fputs("exit handlers ran", stderr));
}

// A worker that was stopped before it was let in: OpenSSL's exit handler ran while a thread of the
// library was in a handshake, which crashed now and then.
TEST(EndProcessDeathTest, RunsNoExitHandlersWhileAHandleRuns) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        static_cast<void>(std::atexit(say_at_exit));
        leave_running(make_handle(RD_KAFKA_CONSUMER, make_conf({{"group.id", "g"}})));
        end_process(3);
      },
      testing::ExitedWithCode(3),
      "^$");
}

TEST(EndProcessDeathTest, OtherwiseIsAnOrdinaryExit) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        static_cast<void>(std::atexit(say_at_exit));
        end_process(3);
      },
      testing::ExitedWithCode(3),
      "exit handlers ran");
}

}  // namespace
}  // namespace onnxferry
