#include "worker/offset_tracker.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace onnxferry {
namespace {

using Admission = OffsetTracker::Admission;

OffsetTracker restored(std::int64_t offset, std::string metadata) {
  return OffsetTracker(CommittedOffset{offset, std::move(metadata)});
}

TEST(OffsetTracker, StartsAtTheFirstDeliveredRecordWhenNothingWasCommitted) {
  OffsetTracker tracker;
  EXPECT_FALSE(tracker.low_water());
  EXPECT_EQ(tracker.deliver(7), Admission::kNew);
  EXPECT_EQ(tracker.commit().offset, 7);
  tracker.complete(7);
  EXPECT_EQ(tracker.commit(), (CommittedOffset{8, "onnxferry1;d=;a="}));
}

TEST(OffsetTracker, KeepsTheLowWaterBelowAnUnfinishedRecord) {
  OffsetTracker tracker = restored(10, "");
  for (const int offset : {10, 11, 12, 13}) {
    tracker.deliver(offset);
  }
  tracker.complete(11);
  tracker.complete(12);
  EXPECT_EQ(tracker.commit(), (CommittedOffset{10, "onnxferry1;d=1-3;a="}));
  tracker.complete(10);
  EXPECT_EQ(tracker.commit(), (CommittedOffset{13, "onnxferry1;d=;a="}));
}

TEST(OffsetTracker, TakesHolesForDone) {
  OffsetTracker tracker = restored(10, "");
  tracker.deliver(10);
  tracker.deliver(15);  // 11 to 14 were compacted away
  tracker.complete(15);
  tracker.complete(10);
  EXPECT_EQ(tracker.commit().offset, 16);
}

TEST(OffsetTracker, SkipsAHoleAtTheCommittedOffset) {
  OffsetTracker tracker = restored(10, "");
  tracker.deliver(12);  // retention removed 10 and 11
  EXPECT_EQ(tracker.commit().offset, 12);
}

TEST(OffsetTracker, TheEndOfThePartitionIsDoneWhenNothingIsInFlight) {
  OffsetTracker tracker = restored(10, "");
  tracker.deliver(10);
  tracker.complete(10);
  tracker.reach_end(12);  // 11 is a transaction marker
  EXPECT_EQ(tracker.commit(), (CommittedOffset{12, "onnxferry1;d=;a="}));
  EXPECT_EQ(tracker.deliver(12), Admission::kNew);
  EXPECT_EQ(tracker.commit().offset, 12);
}

TEST(OffsetTracker, TheEndOfThePartitionPassesNoRecordInFlight) {
  OffsetTracker tracker = restored(10, "");
  tracker.deliver(10);
  tracker.reach_end(12);
  EXPECT_EQ(tracker.commit(), (CommittedOffset{10, "onnxferry1;d=1-2;a="}));
  tracker.complete(10);
  EXPECT_EQ(tracker.commit().offset, 12);
}

TEST(OffsetTracker, TheEndOfAPartitionWithoutACommitIsItsStart) {
  OffsetTracker tracker;
  tracker.reach_end(5);
  EXPECT_EQ(tracker.commit().offset, 5);
  tracker.reach_end(3);  // never back
  EXPECT_EQ(tracker.commit().offset, 5);
}

TEST(OffsetTracker, DropsWhatIsInFlightOrDone) {
  OffsetTracker tracker = restored(10, "onnxferry1;d=1-3;a=");
  EXPECT_EQ(tracker.deliver(9), Admission::kDuplicate);
  EXPECT_EQ(tracker.deliver(10), Admission::kNew);
  EXPECT_EQ(tracker.deliver(10), Admission::kDuplicate);
  EXPECT_EQ(tracker.deliver(11), Admission::kDuplicate);
  EXPECT_EQ(tracker.deliver(12), Admission::kDuplicate);
  EXPECT_EQ(tracker.deliver(13), Admission::kNew);
}

TEST(OffsetTracker, RemembersAttemptsAcrossAnOwner) {
  OffsetTracker tracker = restored(10, "");
  tracker.deliver(10);
  tracker.deliver(11);
  tracker.start_attempt(11);
  tracker.start_attempt(11);
  const CommittedOffset committed = tracker.commit();
  EXPECT_EQ(committed.metadata, "onnxferry1;d=;a=1:2");
  const OffsetTracker next_owner(committed);
  EXPECT_EQ(next_owner.attempts(10), 0U);
  EXPECT_EQ(next_owner.attempts(11), 2U);
}

TEST(OffsetTracker, ReleasesAnAttemptAndForgetsThoseOfDoneRecords) {
  OffsetTracker tracker = restored(5, "");
  tracker.deliver(5);
  tracker.start_attempt(5);
  tracker.release_attempt(5);
  EXPECT_EQ(tracker.commit().metadata, "onnxferry1;d=;a=");
  tracker.start_attempt(5);
  tracker.complete(5);
  EXPECT_EQ(tracker.commit(), (CommittedOffset{6, "onnxferry1;d=;a="}));
}

// Found by the fuzzer: an attempt below the low water was committed as a number that no reader
// took, and all that was done above the offset was forgotten with it.
TEST(OffsetTracker, DropsAttemptsBelowTheLowWater) {
  const OffsetTracker tracker = restored(10, "onnxferry1;d=0-3,5-6;a=0:1,4:2");
  EXPECT_EQ(tracker.commit(), (CommittedOffset{13, "onnxferry1;d=2-3;a=1:2"}));
}

TEST(OffsetTracker, ReadsForeignMetadataAsNothingDone) {
  for (const char* metadata : {"",
                               "kafka-streams",
                               "onnxferry2;d=1-3;a=",
                               "onnxferry1;d=1-3",
                               "onnxferry1;d=3-1;a=",
                               "onnxferry1;d=1-;a=",
                               "onnxferry1;d=1;a=",
                               "onnxferry1;d=1-3;a=1:!",
                               "onnxferry1;d=-1-3;a=",
                               "onnxferry1;d=1-zzzzzzzzzzzzzz;a=",
                               "onnxferry1;d=1-1y2p0ij32e8e7;a=",
                               "onnxferry1;d=1-3;a=1:0",
                               "onnxferry1;d=1-3;a=1:zzzzzz"}) {
    OffsetTracker tracker = restored(10, metadata);
    EXPECT_FALSE(tracker.is_done(11)) << metadata;
    EXPECT_EQ(tracker.attempts(11), 0U) << metadata;
    EXPECT_EQ(tracker.commit(), (CommittedOffset{10, "onnxferry1;d=;a="})) << metadata;
  }
}

TEST(OffsetTracker, SaysFullBeforeTheMetadataCouldOverflow) {
  // Every other record done and the others on their last attempts: the worst case for the encoding.
  OffsetTracker tracker = restored(1'000'000'000'000, "");
  std::int64_t offset = 1'000'000'000'000;
  for (; !tracker.is_full(); offset += 1'000'000'007) {
    ASSERT_LT(tracker.in_flight(), 1000U);
    tracker.deliver(offset);
    tracker.start_attempt(offset);
  }
  EXPECT_GT(tracker.in_flight(), 32U);
  EXPECT_LE(tracker.commit().metadata.size(), OffsetTracker::kMaxMetadataBytes);
}

// Whatever the order of ends and however often the owner changes: what is committed never moves
// backwards, never covers an unfinished record, and a next owner runs exactly the unfinished ones.
class OffsetTrackerProperty : public testing::TestWithParam<unsigned> {};

TEST_P(OffsetTrackerProperty, NextOwnerRunsExactlyTheUnfinishedRecords) {
  std::mt19937 random(GetParam());
  const auto below = [&](unsigned bound) { return static_cast<unsigned>(random() % bound); };
  std::vector<std::int64_t> log;  // a partition with holes
  for (std::int64_t offset = below(5); log.size() < 200;
       offset += 1 + (below(4) == 0 ? below(9) : 0)) {
    log.push_back(offset);
  }
  std::set<std::int64_t> answered;
  OffsetTracker tracker;
  CommittedOffset committed;
  std::size_t position = 0;
  for (int step = 0; step < 2000 && answered.size() < log.size(); ++step) {
    std::vector<std::int64_t> running;
    std::ranges::copy_if(log, std::back_inserter(running), [&](std::int64_t offset) {
      return tracker.is_in_flight(offset);
    });
    const unsigned dice = below(20);
    if (dice == 0) {  // the partition moves to a next owner, which reads the committed state only
      tracker = OffsetTracker(committed);
      position = 0;
      while (committed.offset && position < log.size() && log[position] < *committed.offset) {
        ++position;
      }
    } else if (dice < 12 && position < log.size() && !tracker.is_full()) {
      const std::int64_t offset = log[position++];
      EXPECT_EQ(tracker.deliver(offset) == Admission::kNew, !answered.contains(offset)) << offset;
    } else if (!running.empty()) {
      const std::int64_t offset = running[below(static_cast<unsigned>(running.size()))];
      tracker.complete(offset);
      EXPECT_TRUE(answered.insert(offset).second) << "answered twice: " << offset;
      const CommittedOffset next = tracker.commit();
      EXPECT_GE(*next.offset, committed.offset.value_or(0));
      EXPECT_LE(next.metadata.size(), OffsetTracker::kMaxMetadataBytes);
      committed = next;
      for (const std::int64_t unfinished : log) {
        if (!answered.contains(unfinished) && unfinished <= offset) {
          EXPECT_FALSE(OffsetTracker(committed).is_done(unfinished)) << unfinished;
        }
      }
    }
  }
  EXPECT_EQ(answered.size(), log.size());
  EXPECT_EQ(committed.offset, log.back() + 1);
}

INSTANTIATE_TEST_SUITE_P(Seeds, OffsetTrackerProperty, testing::Range(0U, 50U));

}  // namespace
}  // namespace onnxferry
