#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/archive/archive.h"
#include "pipeline/error.h"

namespace onnxferry {

class QuietObserver final : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t done, std::uint64_t /*total*/) override {
    done_ = done;
    is_cancelled_ = is_cancelled_ || done >= cancel_after_;
  }
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view /*reason*/) override {}
  [[nodiscard]] bool is_cancelled() const override { return is_cancelled_; }

  void cancel_after(std::uint64_t bytes) {
    cancel_after_ = bytes;
    is_cancelled_ = bytes == 0;
  }
  [[nodiscard]] std::uint64_t done() const { return done_; }

 private:
  std::uint64_t done_ = 0;
  std::uint64_t cancel_after_ = UINT64_MAX;
  bool is_cancelled_ = false;
};

/// top/model.tar is unpacked into top/job. After every run the test fails if anything changed
/// beside top/job, or if anything in it is no plain file or directory with our modes.
class Sandbox {
 public:
  Sandbox() {
    std::string path = (std::filesystem::temp_directory_path() / "onnxferry-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) {
      throw std::runtime_error("mkdtemp failed");
    }
    top_ = path;
    write(top_ / "canary", "untouched");
    std::filesystem::create_directory(top_ / "outside");
    std::filesystem::create_directory(job());
    std::filesystem::permissions(job(), std::filesystem::perms::owner_all);
  }
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;
  ~Sandbox() {
    std::error_code ignored;
    std::filesystem::remove_all(top_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& top() const { return top_; }
  [[nodiscard]] std::filesystem::path job() const { return top_ / "job"; }
  [[nodiscard]] QuietObserver& observer() { return observer_; }
  ArchiveLimits limits;

  ExtractedArchive extract(std::string_view archive) {
    write(top_ / "model.tar", archive);
    StageScope scope(Stage::kExtract, observer_);
    try {
      ExtractedArchive result = extract_archive(top_ / "model.tar", job(), limits, scope);
      check_nothing_escaped();
      return result;
    } catch (...) {
      check_nothing_escaped();
      throw;
    }
  }

  Error error_of(std::string_view archive) {
    try {
      extract(archive);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no Error was thrown";
    return {ErrorCode::kInternal, "no Error was thrown"};
  }

  void expect_refused(std::string_view archive, ErrorCode code, std::string_view message_part) {
    const Error error = error_of(archive);
    EXPECT_EQ(describe(error.code()).name, describe(code).name) << error.message();
    EXPECT_NE(error.message().find(message_part), std::string::npos)
        << "message: " << error.message() << "\nexpected part: " << message_part;
  }

  /// Content of a file below the job directory.
  [[nodiscard]] std::string read(const std::filesystem::path& path) const {
    std::ifstream file(job() / path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  static void write(const std::filesystem::path& path, std::string_view text) {
    std::ofstream file(path, std::ios::binary);
    file.write(text.data(), static_cast<std::streamsize>(text.size()));
  }

 private:
  void check_nothing_escaped() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(top_)) {
      names.push_back(entry.path().filename().string());
    }
    EXPECT_THAT(names, testing::UnorderedElementsAre("canary", "outside", "job", "model.tar"));
    EXPECT_TRUE(std::filesystem::is_empty(top_ / "outside"));
    std::ifstream canary(top_ / "canary");
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(canary), {}), "untouched");
    for (const auto& entry : std::filesystem::recursive_directory_iterator(job())) {
      struct stat status{};
      ASSERT_EQ(::lstat(entry.path().c_str(), &status), 0);
      EXPECT_TRUE(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) << entry.path();
      EXPECT_EQ(status.st_mode & 07777U, S_ISDIR(status.st_mode) ? 0700U : 0600U) << entry.path();
      EXPECT_TRUE(S_ISDIR(status.st_mode) || status.st_nlink == 1) << entry.path();
    }
  }

  std::filesystem::path top_;
  QuietObserver observer_;
};

}  // namespace onnxferry
