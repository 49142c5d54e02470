#include <string>

#include "tests/fuzz/targets.h"
#include "worker/offset_tracker.h"

namespace onnxferry::fuzz {

/// The first byte chooses the committed offset, the rest is its metadata, which any program of the
/// group may have written. Nothing below the offset comes back, records go on, and what is then
/// committed says the same when it is read again.
void fuzz_offsets(Input input) {
  const std::int64_t offset = input.empty() ? 0 : std::int64_t{input.front()} * 1000;
  const std::string metadata(as_text(input.subspan(input.empty() ? 0 : 1)));
  OffsetTracker tracker({.offset = offset, .metadata = metadata});
  FUZZ_CHECK(tracker.low_water() >= offset);
  if (*tracker.low_water() > INT64_MAX - 100) {
    return;  // no broker gets there
  }
  FUZZ_CHECK(tracker.in_flight() == 0);
  const std::int64_t begin = *tracker.low_water();
  // As the worker does: nothing more is fetched while the tracker is full.
  for (std::int64_t at = begin; at < begin + 40 && !tracker.is_full(); ++at) {
    if (tracker.deliver(at) == OffsetTracker::Admission::kNew && at % 3 == 0) {
      tracker.start_attempt(at);
      tracker.complete(at);
    }
  }
  const CommittedOffset commit = tracker.commit();
  FUZZ_CHECK(commit.offset >= offset);
  FUZZ_CHECK(commit.metadata.size() <= OffsetTracker::kMaxMetadataBytes ||
             metadata.size() > OffsetTracker::kMaxMetadataBytes);
  const OffsetTracker again(commit);
  for (std::int64_t at = begin; at < begin + 60; ++at) {
    FUZZ_CHECK(again.is_done(at) == tracker.is_done(at));
  }
}

}  // namespace onnxferry::fuzz
