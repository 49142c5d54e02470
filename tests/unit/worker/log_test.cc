#include "worker/log.h"

#include <cstdlib>

#include <gtest/gtest.h>

namespace onnxferry {
namespace {

// Threads of librdkafka outlive main(): a handle that has never joined its group is left to the end
// of the process, and says then that its broker is away.
TEST(LogDeathTest, CanBeWrittenWhenTheProcessEnds) {
  // A process of its own, in which nothing has been logged yet.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        // Handlers run in reverse order, among them the destruction of what was made meanwhile.
        (void)std::atexit([] { log(LogLevel::kWarn, "the broker is away"); });
        log(LogLevel::kInfo, "worker stopped");
        std::exit(0);  // NOLINT(concurrency-mt-unsafe): the one thread there is
      },
      testing::ExitedWithCode(0),
      "worker stopped\n.* WARN  the broker is away\n$");
}

}  // namespace
}  // namespace onnxferry
