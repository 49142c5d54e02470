#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/error.h"
#include "pipeline/stage.h"
#include "tests/support/tests_dir.h"

namespace onnxferry::testing {

/// tests/fixtures/<name>/checkpoint
inline std::filesystem::path checkpoint_dir(const std::string& name) {
  return tests_dir() / "fixtures" / name / "checkpoint";
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// A directory that lives as long as the object.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "onnxferry-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Copies a fixture's checkpoint to a place where a test may damage it.
inline std::filesystem::path copy_checkpoint(const std::string& name, const TempDir& into) {
  const auto copy = into.path() / name;
  std::filesystem::copy(checkpoint_dir(name), copy, std::filesystem::copy_options::recursive);
  return copy;
}

class NullObserver : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t /*done*/, std::uint64_t /*total*/) override {}
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view /*reason*/) override {}
  [[nodiscard]] bool is_cancelled() const override { return false; }
};

/// The function throws Error with this code, and its message holds `part`.
template <typename Function>
void expect_error(ErrorCode code, std::string_view part, Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(describe(error.code()).name, describe(code).name) << error.message();
    EXPECT_THAT(error.message(), ::testing::HasSubstr(std::string(part)));
    return;
  }
  ADD_FAILURE() << "no error; expected " << describe(code).name << " with: " << part;
}

}  // namespace onnxferry::testing
