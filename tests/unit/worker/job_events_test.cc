#include "worker/job_events.h"

#include <array>
#include <csignal>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/unit/messages/fill.h"

namespace onnxferry {
namespace {

using google::protobuf::util::MessageDifferencer;

v1::JobEvent progress_event(std::uint64_t done) {
  v1::JobEvent event;
  event.mutable_progress()->set_done(done);
  return event;
}

TEST(FrameReader, ReadsFramesFromAnyPieces) {
  const auto spec = messages::filled<v1::JobSpec>();
  std::string stream = frame(spec);
  const std::size_t first = stream.size();
  stream += frame(v1::JobSpec());  // an empty message is a frame of length 0
  stream += frame(spec);
  EXPECT_GT(first, 128U) << "two bytes of length";
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    FrameReader reader;
    std::vector<v1::JobSpec> found;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      reader.feed(std::string_view(stream).substr(at, piece));
      v1::JobSpec message;
      while (reader.next(message)) {
        found.push_back(message);
      }
    }
    ASSERT_EQ(found.size(), 3U);
    EXPECT_TRUE(MessageDifferencer::Equals(found[0], spec));
    EXPECT_EQ(found[1].ByteSizeLong(), 0U);
    EXPECT_TRUE(MessageDifferencer::Equals(found[2], spec));
    EXPECT_EQ(reader.pending_bytes(), 0U);
  }
}

TEST(FrameReader, TellsACutStream) {
  const std::string stream = frame(progress_event(300));
  FrameReader reader;
  v1::JobEvent event;
  EXPECT_FALSE(reader.next(event));
  reader.feed(std::string_view(stream).substr(0, stream.size() - 1));
  EXPECT_FALSE(reader.next(event));
  EXPECT_EQ(reader.pending_bytes(), stream.size() - 1);
}

TEST(FrameReader, RefusesStreamsThatAreNotOurs) {
  v1::JobEvent event;
  FrameReader exact(100);
  exact.feed("\x64");
  EXPECT_FALSE(exact.next(event)) << "100 bytes are allowed, and not there yet";
  FrameReader past(100);
  past.feed("\x65");
  EXPECT_THROW(past.next(event), Error);
  FrameReader endless;
  endless.feed(std::string(10, '\xff'));
  EXPECT_THROW(endless.next(event), Error);
  FrameReader garbage;
  garbage.feed(std::string("\x02\xff\xff", 3));
  EXPECT_THROW(garbage.next(event), Error);
}

/// A pipe whose ends close with it.
class Pipe {
 public:
  Pipe() { EXPECT_EQ(::pipe(ends_.data()), 0); }
  ~Pipe() {
    close_reader();
    close_writer();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  [[nodiscard]] int reader() const { return ends_[0]; }
  [[nodiscard]] int writer() const { return ends_[1]; }
  void close_reader() { close_end(ends_[0]); }
  void close_writer() { close_end(ends_[1]); }

  std::vector<v1::JobEvent> drain() {
    close_writer();
    FrameReader frames;
    std::vector<v1::JobEvent> events;
    std::array<char, 4096> buffer{};
    while (true) {
      const ssize_t count = ::read(reader(), buffer.data(), buffer.size());
      if (count <= 0) {
        EXPECT_EQ(frames.pending_bytes(), 0U);
        return events;
      }
      frames.feed({buffer.data(), static_cast<std::size_t>(count)});
      v1::JobEvent event;
      while (frames.next(event)) {
        events.push_back(event);
      }
    }
  }

 private:
  static void close_end(int& end) {
    if (end >= 0) {
      ::close(end);
      end = -1;
    }
  }
  std::array<int, 2> ends_{-1, -1};
};

TEST(ReadFrame, ReadsOneMessageAndRefusesAnEarlyEnd) {
  const auto spec = messages::filled<v1::JobSpec>();
  const std::string bytes = frame(spec);
  Pipe pipe;
  std::thread writer([&] {
    for (const char c : bytes) {
      EXPECT_EQ(::write(pipe.writer(), &c, 1), 1);
    }
  });
  v1::JobSpec found;
  read_frame(pipe.reader(), found);
  writer.join();
  EXPECT_TRUE(MessageDifferencer::Equals(found, spec));

  Pipe cut;
  EXPECT_EQ(::write(cut.writer(), bytes.data(), 10), 10);
  cut.close_writer();
  EXPECT_THROW(read_frame(cut.reader(), found), Error);
}

TEST(JobEventWriter, WritesEveryKindOfEvent) {
  Pipe pipe;
  const std::atomic<bool> cancelled = false;
  JobEventWriter writer(pipe.writer(), cancelled);
  writer.stage_started(Stage::kDownload);
  writer.waiting(Stage::kDownload, true, "S3 answers 503 \xff");
  writer.stage_finished({Stage::kDownload, std::chrono::milliseconds(12), 34});
  v1::ExportResult result;
  result.set_task("fill-mask");
  EXPECT_TRUE(writer.finish(result));
  const auto events = pipe.drain();
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(events[0].stage_started().stage(), "download");
  EXPECT_TRUE(events[1].waiting().waiting());
  EXPECT_EQ(events[1].waiting().reason(), "S3 answers 503 \uFFFD");
  EXPECT_EQ(events[2].stage_finished().ms(), 12U);
  EXPECT_EQ(events[2].stage_finished().bytes(), 34U);
  EXPECT_EQ(events[3].result().task(), "fill-mask");
}

TEST(JobEventWriter, LimitsProgressButKeepsFirstAndLast) {
  Pipe pipe;
  const std::atomic<bool> cancelled = false;
  JobEventWriter writer(pipe.writer(), cancelled);
  constexpr std::uint64_t kTotal = 10'000;
  const auto start = std::chrono::steady_clock::now();
  for (const Stage stage : {Stage::kDownload, Stage::kUpload}) {
    for (std::uint64_t done = 1; done <= kTotal; ++done) {
      writer.progress(stage, done, kTotal);
    }
    writer.progress(stage, kTotal, kTotal);
  }
  const auto elapsed = std::chrono::steady_clock::now() - start;
  const auto events = pipe.drain();
  EXPECT_EQ(events.front().progress().done(), 1U);
  EXPECT_EQ(events.back().progress().done(), kTotal);
  EXPECT_EQ(events.back().progress().total(), kTotal);
  EXPECT_EQ(events.back().progress().stage(), "upload");
  // First and last of each stage, and one each 100 ms besides.
  EXPECT_LE(events.size(), 4U + static_cast<std::size_t>(elapsed / std::chrono::milliseconds(100)));
}

TEST(JobEventWriter, NeverMixesEventsOfSeveralThreads) {
  Pipe pipe;
  const std::atomic<bool> cancelled = false;
  JobEventWriter writer(pipe.writer(), cancelled);
  std::vector<v1::JobEvent> events;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) {
        writer.waiting(Stage::kUpload, true, std::string(100, 'x'));
      }
    });
  }
  std::thread reader([&] {
    FrameReader frames;
    std::array<char, 333> buffer{};
    while (events.size() < 400) {
      const ssize_t count = ::read(pipe.reader(), buffer.data(), buffer.size());
      ASSERT_GT(count, 0);
      frames.feed({buffer.data(), static_cast<std::size_t>(count)});
      v1::JobEvent event;
      while (frames.next(event)) {
        events.push_back(event);
      }
    }
  });
  for (auto& thread : threads) {
    thread.join();
  }
  reader.join();
  for (const auto& event : events) {
    ASSERT_EQ(event.waiting().reason().size(), 100U);
  }
}

TEST(JobEventWriter, CancelsTheJobWhenItsParentIsGone) {
  const auto old_handler = std::signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  pipe.close_reader();
  std::atomic<bool> cancelled = false;
  JobEventWriter writer(pipe.writer(), cancelled);
  EXPECT_FALSE(writer.is_cancelled());
  writer.stage_started(Stage::kDownload);
  EXPECT_TRUE(writer.is_cancelled());
  EXPECT_FALSE(writer.finish(v1::Failure()));
  std::signal(SIGPIPE, old_handler);
}

TEST(JobEventWriter, SeesTheCancelFlag) {
  Pipe pipe;
  std::atomic<bool> cancelled = false;
  const JobEventWriter writer(pipe.writer(), cancelled);
  EXPECT_FALSE(writer.is_cancelled());
  cancelled = true;
  EXPECT_TRUE(writer.is_cancelled());
}

}  // namespace
}  // namespace onnxferry
