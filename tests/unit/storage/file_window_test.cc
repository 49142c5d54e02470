#include "pipeline/storage/file_window.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "pipeline/storage/file_handle.h"

namespace onnxferry {
namespace {

class FileWindowTest : public ::testing::Test {
 protected:
  FileWindowTest() {
    for (int line = 0; text_.size() < 100'000; ++line) {
      text_ += std::to_string(line) + "\n";
    }
    std::ofstream(path_, std::ios::binary) << text_;
    file_ = open_to_read(path_, ErrorCode::kInternal);
  }
  FileWindowTest(const FileWindowTest&) = delete;
  FileWindowTest& operator=(const FileWindowTest&) = delete;
  ~FileWindowTest() override { std::filesystem::remove(path_); }

  void expect_shown(std::uint64_t offset, std::size_t count) {
    const char* const bytes = window_.show(file_.get(), offset, count);
    ASSERT_NE(bytes, nullptr) << "at " << offset;
    EXPECT_EQ(std::string(bytes, count), text_.substr(offset, count)) << "at " << offset;
  }

  std::filesystem::path path_ = std::filesystem::path(::testing::TempDir()) /
                                ("onnxferry-window-" + std::to_string(::getpid()));
  std::string text_;
  FileHandle file_;
  FileWindow window_;
};

TEST_F(FileWindowTest, ShowsOnePieceAfterAnother) {
  expect_shown(0, 65536);
  expect_shown(65536, text_.size() - 65536);
  expect_shown(4096, 10);
}

TEST_F(FileWindowTest, ReadsWhereAPieceCannotBeMapped) {
  expect_shown(1, 65536);
  expect_shown(text_.size() - 5, 5);
}

TEST_F(FileWindowTest, ShowsNothingOfAFileThatBecameShorter) {
  expect_shown(65536, 4096);
  std::filesystem::resize_file(path_, 65536);
  EXPECT_EQ(window_.show(file_.get(), 65536, 4096), nullptr);
  EXPECT_EQ(window_.show(file_.get(), 61440, 8192), nullptr);
  expect_shown(61440, 4096);
}

}  // namespace
}  // namespace onnxferry
