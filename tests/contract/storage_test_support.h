#pragma once

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "pipeline/error.h"
#include "pipeline/stage.h"
#include "pipeline/storage/store_config.h"

namespace onnxferry::test {

inline constexpr std::uint64_t kMiB = 1ULL << 20U;

/// Records what the store tells the stage; can cancel it after a number of bytes.
class RecordingObserver : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t done, std::uint64_t total) override {
    done_ = done;
    total_ = total;
    if (on_progress) {
      on_progress();
    }
  }
  void waiting(Stage /*stage*/, bool waiting, std::string_view reason) override {
    waits.emplace_back(waiting, reason);
  }
  [[nodiscard]] bool is_cancelled() const override { return done_ >= cancel_after; }

  [[nodiscard]] std::uint64_t done() const { return done_; }
  [[nodiscard]] std::uint64_t total() const { return total_; }

  std::atomic<std::uint64_t> cancel_after = ~0ULL;
  std::vector<std::pair<bool, std::string>> waits;
  std::function<void()> on_progress;

 private:
  std::atomic<std::uint64_t> done_ = 0;
  std::uint64_t total_ = 0;
};

inline std::optional<std::string> variable(std::string_view name) {
  const char* const value = std::getenv(std::string(name).c_str());
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

/// The server the runner has started (tests/contract/README.md).
struct TestServer {
  std::string endpoint;
  std::string access_key;
  std::string secret_key;
  std::string bucket;

  static bool is_left_out() { return variable("ONNXFERRY_TEST_S3") == "skip"; }

  /// \throws std::runtime_error naming the first variable that is missing
  static TestServer from_environment(std::string_view endpoint_variable) {
    const auto required = [](std::string_view name) {
      auto value = variable(name);
      if (!value) {
        throw std::runtime_error(std::string(name) +
                                 " is not set; see tests/contract/README.md, or set "
                                 "ONNXFERRY_TEST_S3=skip to leave the S3 tests out");
      }
      return *value;
    };
    return {.endpoint = required(endpoint_variable),
            .access_key = required("ONNXFERRY_TEST_S3_ACCESS_KEY"),
            .secret_key = required("ONNXFERRY_TEST_S3_SECRET_KEY"),
            .bucket = required("ONNXFERRY_TEST_S3_BUCKET")};
  }

  [[nodiscard]] StoreConfig config() const {
    StoreConfig config;
    config.endpoint = endpoint;
    config.ca_bundle = variable("AWS_CA_BUNDLE").value_or("");
    config.part_bytes = 5 * kMiB;
    config.retry.backoff_base = std::chrono::milliseconds(20);
    config.retry.backoff_cap = std::chrono::milliseconds(200);
    config.retry.outage_bound = std::chrono::milliseconds(20'000);
    return config;
  }

  [[nodiscard]] EnvironmentLookup credentials() const {
    return [key = access_key,
            secret = secret_key](std::string_view name) -> std::optional<std::string> {
      if (name == "AWS_ACCESS_KEY_ID") {
        return key;
      }
      return name == "AWS_SECRET_ACCESS_KEY" ? std::optional(secret) : std::nullopt;
    };
  }
};

/// A new directory that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "onnxferry-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw std::runtime_error("no temporary directory");
    }
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::string random_bytes(std::uint64_t count, unsigned int seed) {
  std::mt19937_64 random(seed);
  std::string bytes(count, '\0');
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    const std::uint64_t word = random();
    bytes.replace(i,
                  std::min<std::size_t>(8, bytes.size() - i),
                  reinterpret_cast<const char*>(&word),
                  std::min<std::size_t>(8, bytes.size() - i));
  }
  return bytes;
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline void write_file(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// Unique among test runs that share a server.
inline std::string unique_prefix() {
  static std::atomic<int> counter = 0;
  return "run-" + std::to_string(::getpid()) + "-" + std::to_string(std::random_device{}()) + "-" +
         std::to_string(counter++) + "/";
}

/// The Error that `function` throws; a test failure when it throws none.
template <typename Function>
Error error_of(Function&& function) {
  try {
    std::forward<Function>(function)();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {ErrorCode::kInternal, "(none)"};
}

}  // namespace onnxferry::test
