#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <unistd.h>

#include "pipeline/run.h"
#include "pipeline/storage/store_config.h"
#include "tests/support/fixture.h"
#include "tests/support/tests_dir.h"

// The whole export, with whatever a stranger may send. The corpus is made by make_corpus.py when
// the test starts.

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

struct Case {
  std::string name;
  std::string code;  // of the Error; "OK" for none
  std::string word;  // of its message
};

std::vector<Case> read_cases(const fs::path& corpus) {
  std::vector<Case> cases;
  for (const auto& row : nlohmann::json::parse(testing::read_text(corpus / "cases.json"))) {
    cases.push_back({row.at("name"), row.at("code"), row.at("word")});
  }
  return cases;
}

/// No case may need more; a file or an allocation beyond is an error of another code than expected.
void limit_resources() {
  std::signal(SIGXFSZ, SIG_IGN);  // write then fails with EFBIG
  const rlimit file_bytes{64U << 20, RLIM_INFINITY};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &file_bytes), 0);
#ifndef __SANITIZE_ADDRESS__
  const rlimit memory{1U << 30, RLIM_INFINITY};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &memory), 0);
#endif
}

class HostileCorpus : public ::testing::Test {
 protected:
  struct Outcome {
    std::string code = "OK";
    std::string message;
  };

  void SetUp() override {
    const std::string command = fmt::format(
        "python3 -B '{}/hostile/make_corpus.py' '{}' >&2", tests_dir().string(), corpus().string());
    ASSERT_EQ(std::system(command.c_str()), 0);  // NOLINT(concurrency-mt-unsafe): one thread
    testing::write_text(temp_.path() / "canary", "untouched");
    limit_resources();
  }

  Outcome run(const std::string& name) {
    fs::create_directory(scratch());
    fs::permissions(scratch(), fs::perms::owner_all);
    ExportOptions options;
    options.request_id = name;
    options.source_uri = "file://" + (corpus() / name).string();
    options.output_uri = "file://" + out().string() + "/";
    options.verify = VerifyLevel::kStructure;
    options.export_timestamp = "2026-01-02T03:04:05Z";
    Workspace workspace{.scratch = scratch(), .limits = {}, .runtime = nullptr};
    Outcome outcome;
    try {
      run_export(options, *stores_, workspace, observer_);
    } catch (const Error& error) {
      outcome = {std::string(describe(error.code()).name), error.message()};
    }
    check_nothing_escaped(outcome.code == "OK");
    fs::remove_all(scratch());
    fs::remove_all(out());
    return outcome;
  }

  [[nodiscard]] fs::path corpus() const { return temp_.path() / "corpus"; }

 private:
  [[nodiscard]] fs::path scratch() const { return temp_.path() / "scratch"; }
  [[nodiscard]] fs::path out() const { return temp_.path() / "out"; }

  void check_nothing_escaped(bool is_published) const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(temp_.path())) {
      names.insert(entry.path().filename().string());
    }
    names.erase("out");
    EXPECT_EQ(names, (std::set<std::string>{"canary", "corpus", "scratch"}));
    EXPECT_EQ(testing::read_text(temp_.path() / "canary"), "untouched");
    EXPECT_EQ(fs::exists(out() / "export_manifest.json"), is_published);
    EXPECT_EQ(fs::exists(out() / "model.onnx"), is_published);
    for (const auto& entry : fs::recursive_directory_iterator(scratch())) {
      EXPECT_FALSE(entry.is_symlink()) << entry.path();
      EXPECT_TRUE(entry.is_regular_file() || entry.is_directory()) << entry.path();
    }
  }

  testing::NullObserver observer_;
  testing::TempDir temp_;
  std::unique_ptr<Stores> stores_ = make_stores({}, [](std::string_view) { return std::nullopt; });
};

TEST_F(HostileCorpus, EveryCaseGetsItsOwnError) {
  const std::vector<Case> cases = read_cases(corpus());
  ASSERT_GE(cases.size(), 300U);
  const bool is_verbose = std::getenv("HOSTILE_VERBOSE") != nullptr;
  for (const Case& expected : cases) {
    SCOPED_TRACE(expected.name);
    ::alarm(120);  // a hang ends the program; ctest shows its last line
    const Outcome outcome = run(expected.name);
    if (is_verbose) {
      std::cout << fmt::format("{}\t{}\t{}\n", expected.name, outcome.code, outcome.message);
    }
    EXPECT_EQ(outcome.code, expected.code) << outcome.message;
    EXPECT_THAT(outcome.message, ::testing::HasSubstr(expected.word));
    EXPECT_LT(outcome.message.size(), 1000U) << "a message may not carry the input along";
  }
  ::alarm(0);
}

}  // namespace
}  // namespace onnxferry
