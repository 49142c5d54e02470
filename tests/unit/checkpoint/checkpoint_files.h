#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <gtest/gtest.h>
#include <unistd.h>

#include "pipeline/error.h"

namespace onnxferry {

/// A directory of its own for a test, removed with everything in it.
class TempDirectory {
 public:
  TempDirectory() {
    std::string path = (std::filesystem::temp_directory_path() / "onnxferry-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) {
      throw std::runtime_error("mkdtemp failed");
    }
    path_ = path;
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, std::string_view text) const {
    std::ofstream file(path_ / name, std::ios::binary);
    file.write(text.data(), static_cast<std::streamsize>(text.size()));
    ASSERT_TRUE(file.good()) << name;
  }

 private:
  std::filesystem::path path_;
};

/// A safetensors file: length, header, data.
inline std::string safetensors(std::string_view json, std::string_view data) {
  std::string file;
  for (int i = 0; i < 8; ++i) {
    file.push_back(static_cast<char>(static_cast<std::uint64_t>(json.size()) >> (8 * i) & 0xFF));
  }
  file += json;
  file += data;
  return file;
}

/// Names a parameterised test after its row.
template <typename Case>
std::string case_name(const testing::TestParamInfo<Case>& row) {
  return row.param.name;
}

/// Run `function` and return the Error that it must throw.
template <typename Function>
Error error_of(Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {ErrorCode::kInternal, "no Error was thrown"};
}

inline void expect_error(const Error& error, ErrorCode code, std::string_view message_part) {
  EXPECT_EQ(describe(error.code()).name, describe(code).name) << error.message();
  EXPECT_NE(error.message().find(message_part), std::string::npos)
      << "message: " << error.message() << "\nexpected part: " << message_part;
}

}  // namespace onnxferry
