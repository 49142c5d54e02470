#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/fuzz/targets.h"
#include "tests/support/fixture.h"
#include "tests/support/tests_dir.h"

namespace onnxferry::fuzz {
namespace {

namespace fs = std::filesystem;

class FuzzCorpus : public ::testing::TestWithParam<Target> {};

/// Seeds and every input that once found a bug, without the fuzzer.
TEST_P(FuzzCorpus, Replays) {
  const fs::path folder = tests_dir() / "fuzz" / "corpus" / std::string(GetParam().name);
  int inputs = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    SCOPED_TRACE(entry.path());
    const std::string text = testing::read_text(entry.path());
    const Input whole(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    GetParam().run(whole);
    // Cut anywhere and with any byte damaged: cheap, and what a fuzzer tries first.
    const std::size_t step = std::max<std::size_t>(1, whole.size() / 50);
    for (std::size_t at = 0; at < whole.size(); at += step) {
      GetParam().run(whole.first(at));
      std::string damaged = text;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
      GetParam().run({reinterpret_cast<const std::uint8_t*>(damaged.data()), damaged.size()});
    }
    ++inputs;
  }
  EXPECT_GE(inputs, 3);
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzCorpus, ::testing::ValuesIn(kTargets), [](const auto& row) {
  return std::string(row.param.name);
});

}  // namespace
}  // namespace onnxferry::fuzz
