#include "pipeline/output/writer.h"

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "pipeline/error.h"
#include "pipeline/output/disk_file.h"
#include "pipeline/output/hash_thread.h"
#include "pipeline/output/sha256.h"
#include "pipeline/weights/evaluate.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::uint64_t kBuffer = std::uint64_t{1} << 20;  // the writer's buffer size

/// Tensors whose bytes follow from their position; fails once so many are read.
class PatternSource : public TensorSource {
 public:
  void read(const TensorInfo& tensor,
            std::uint64_t offset,
            std::span<std::byte> out) const override {
    read_so_far += out.size();
    if (read_so_far > fail_after) {
      throw Error(ErrorCode::kCorruptCheckpoint, "weights.safetensors has become shorter");
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::uint64_t at = tensor.offset + offset + i;
      out[i] = static_cast<std::byte>((at ^ (at >> 8) ^ (at >> 16)) & 0x7fU);
    }
  }
  std::uint64_t fail_after = ~std::uint64_t{0};
  mutable std::uint64_t read_so_far = 0;
};

/// Counts progress; cancels when a number of bytes is done.
class Observer : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t done, std::uint64_t /*total*/) override {
    bytes = done;
  }
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view /*reason*/) override {}
  [[nodiscard]] bool is_cancelled() const override { return bytes >= cancel_at; }
  std::uint64_t bytes = 0;
  std::uint64_t cancel_at = ~std::uint64_t{0};
};

class WriterTest : public testing::Test {
 protected:
  WriterTest() {
    std::string path = (fs::temp_directory_path() / "onnxferry-writer-XXXXXX").string();
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    directory = path;
  }
  ~WriterTest() override { fs::remove_all(directory); }

  /// A bfloat16 matrix at a place of its own in the pattern.
  const TensorInfo& tensor(Shape shape) {
    TensorInfo& info = tensors[next_++];
    info.name = "weight";
    info.dtype = Dtype::kBFloat16;
    info.bytes = 2;
    for (const std::int64_t dim : shape) {
      info.bytes *= static_cast<std::uint64_t>(dim);
    }
    info.offset = next_ * 1000003;
    info.shape = std::move(shape);
    return info;
  }

  std::vector<FileReport> write(const std::vector<PlannedFile>& files) {
    StageScope scope(Stage::kExport, observer);
    return write_files(files, source, directory, scope);
  }

  /// The error of a write that must fail.
  Error failure(const std::vector<PlannedFile>& files) {
    try {
      write(files);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing thrown";
    return {ErrorCode::kInternal, ""};
  }

  [[nodiscard]] std::string content(const std::string& name) const {
    std::ifstream in(directory / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  [[nodiscard]] std::string expected_content(const PlannedFile& file) const {
    std::string all;
    for (const Segment& segment : file.segments) {
      if (const auto* bytes = std::get_if<std::string>(&segment)) {
        all += *bytes;
        continue;
      }
      evaluate(std::get<Recipe>(segment), source, [&](std::span<const std::byte> piece) {
        all.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      });
    }
    return all;
  }

  /// More than the writer has buffers, with pieces that fit none of their boundaries.
  PlannedFile large_file(std::string name) {
    PlannedFile file{std::move(name), "onnx", {}};
    file.segments.emplace_back(std::string("odd"));
    file.segments.emplace_back(cast(transpose(view(tensor({700, 3001}))), Dtype::kFloat32));
    file.segments.emplace_back(std::string(2 * kBuffer + 5, 'x'));
    file.segments.emplace_back(std::string());
    file.segments.emplace_back(view(tensor({0, 5})));
    file.segments.emplace_back(cast(view(tensor({1000, 1999})), Dtype::kFloat32));
    file.segments.emplace_back(std::string("end"));
    return file;
  }

  fs::path directory;
  PatternSource source;
  Observer observer;
  std::array<TensorInfo, 16> tensors;

 private:
  std::size_t next_ = 0;
};

/// Bounds the size of any file this process writes, as a full disk would.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    previous_action_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &previous_);
    const rlimit limit{bytes, previous_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &previous_);
    std::signal(SIGXFSZ, previous_action_);
  }

 private:
  rlimit previous_{};
  void (*previous_action_)(int);
};

TEST_F(WriterTest, WritesSegmentsInOrderAndReportsThem) {
  PlannedFile small{"config.json", "config", {}};
  small.segments.emplace_back(std::string("{}\n"));
  PlannedFile mixed{"onnx/model.onnx", "onnx", {}};
  mixed.segments.emplace_back(std::string("head"));
  mixed.segments.emplace_back(transpose(view(tensor({3, 5}))));
  const PlannedFile empty{"empty", "sidecar", {}};
  const std::vector<PlannedFile> files{small, mixed, empty};
  const std::vector<FileReport> reports = write(files);
  ASSERT_EQ(reports.size(), 3U);
  EXPECT_EQ(content("config.json"), "{}\n");
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string bytes = content(files[i].name);
    EXPECT_EQ(bytes, expected_content(files[i]));
    EXPECT_EQ(reports[i].name, files[i].name);
    EXPECT_EQ(reports[i].kind, files[i].kind);
    EXPECT_EQ(reports[i].bytes, bytes.size());
    EXPECT_EQ(reports[i].sha256, sha256_hex(bytes));
    EXPECT_EQ(fs::status(directory / files[i].name).permissions(), fs::perms(0644));
  }
  EXPECT_EQ(observer.bytes, 3U + 4 + 30);
}

TEST_F(WriterTest, WritesLargeFilesThroughManyBuffers) {
  const std::vector<PlannedFile> files{large_file("a.onnx"), large_file("b.onnx")};
  const std::vector<FileReport> reports = write(files);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string bytes = content(files[i].name);
    ASSERT_GT(bytes.size(), 17 * kBuffer);
    EXPECT_TRUE(bytes == expected_content(files[i])) << files[i].name;
    EXPECT_EQ(reports[i].bytes, bytes.size());
    EXPECT_EQ(reports[i].sha256, sha256_hex(bytes));
    EXPECT_EQ(reports[i].sha256, hash_file(directory / files[i].name).sha256);
    EXPECT_EQ(fs::status(directory / files[i].name).permissions(), fs::perms(0644));
  }
  EXPECT_EQ(observer.bytes, files[0].bytes() + files[1].bytes());
}

TEST_F(WriterTest, FilesAroundOneBufferAreWhole) {
  for (const std::uint64_t bytes : {kBuffer - 1, kBuffer, kBuffer + 1, 2 * kBuffer}) {
    PlannedFile file{std::to_string(bytes), "onnx", {}};
    file.segments.emplace_back(std::string(bytes, 'y'));
    const FileReport report = write({file}).front();
    EXPECT_EQ(report.sha256, sha256_hex(std::string(bytes, 'y')));
    EXPECT_EQ(fs::file_size(directory / file.name), bytes);
  }
}

TEST_F(WriterTest, PassesOnWhatTheSourceThrowsInTheMiddleOfALargeFile) {
  source.fail_after = 5 << 20;  // the first tensor has 4.2 MB
  const Error error = failure({large_file("model.onnx")});
  EXPECT_EQ(error.code(), ErrorCode::kCorruptCheckpoint);
  EXPECT_THAT(error.message(), HasSubstr("has become shorter"));
  EXPECT_EQ(fs::status(directory / "model.onnx").permissions(), fs::perms(0600))
      << "an incomplete file looks like a complete one";
  EXPECT_GT(observer.bytes, kBuffer) << "failed before the hash thread had work";
}

TEST_F(WriterTest, PassesOnWhatTheSourceThrowsInASmallFile) {
  source.fail_after = 10;
  PlannedFile file{"model.onnx", "onnx", {}};
  file.segments.emplace_back(view(tensor({3, 5})));
  EXPECT_EQ(failure({file}).code(), ErrorCode::kCorruptCheckpoint);
}

TEST_F(WriterTest, StopsWhenCancelledInTheMiddle) {
  observer.cancel_at = kBuffer;
  const PlannedFile file = large_file("model.onnx");
  EXPECT_EQ(failure({file}).code(), ErrorCode::kCancelled);
  EXPECT_LT(observer.bytes, file.bytes());
}

TEST_F(WriterTest, FullDiskNamesTheFileAndBothSizes) {
  const PlannedFile large = large_file("large.onnx");
  PlannedFile small{"small.onnx", "onnx", {}};
  small.segments.emplace_back(std::string(100000, 'z'));
  const FileSizeLimit limit(50000);
  for (const PlannedFile& file : {large, small}) {
    const Error error = failure({file});
    EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted);
    EXPECT_EQ(error.subject(), file.name);
    EXPECT_THAT(error.message(),
                HasSubstr(file.name + " needs " + std::to_string(file.bytes()) + " bytes"));
    EXPECT_THAT(error.message(), HasSubstr("were free"));
    EXPECT_LE(fs::file_size(directory / file.name), 50000U);
  }
}

TEST_F(WriterTest, NeverTouchesAFileThatExists) {
  std::ofstream(directory / "model.onnx") << "precious";
  PlannedFile file{"model.onnx", "onnx", {}};
  file.segments.emplace_back(std::string("new"));
  const Error error = failure({file});
  EXPECT_EQ(error.code(), ErrorCode::kInternal);
  EXPECT_THAT(error.message(), HasSubstr("model.onnx"));
  EXPECT_EQ(content("model.onnx"), "precious");
}

TEST(DiskFile, WriteToAFullDeviceThrows) {
  const DiskFile full("/dev/full", O_WRONLY);
  const std::array<std::byte, 10> bytes{};
  try {
    full.write(bytes);
    FAIL() << "wrote to a full device";
  } catch (const fs::filesystem_error& error) {
    EXPECT_EQ(error.code(), std::errc::no_space_on_device);
    EXPECT_EQ(error.path1(), "/dev/full");
  }
}

TEST(Sha256, EqualsThePublishedExamples) {
  // FIPS 180-4 examples (NIST "SHA256.pdf").
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(HashThread, HashesInTheOrderSubmitted) {
  HashThread thread(2, 4096);
  Sha256 hash;
  std::string all;
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    PageBuffer& buffer = thread.take();
    std::memset(buffer.bytes().data(), letter, 100);
    all += std::string(100, letter);
    thread.submit(buffer, 100, hash);
  }
  thread.drain();
  EXPECT_EQ(hash.finish(), sha256_hex(all));
}

TEST(HashThread, FailureReachesTheOwnerThatWaits) {
  HashThread thread(1, 4096);
  Sha256 finished;
  static_cast<void>(finished.finish());
  thread.submit(thread.take(), 100, finished);  // a finished hash takes nothing more
  EXPECT_THROW(thread.drain(), Error);
  EXPECT_THROW(thread.take(), Error);
}

}  // namespace
}  // namespace onnxferry
