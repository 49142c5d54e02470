#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace onnxferry {

/// What the broker stores for one partition.
struct CommittedOffset {
  std::optional<std::int64_t> offset;  ///< absent: the group never committed here
  std::string metadata;

  bool operator==(const CommittedOffset&) const = default;
};

/// Which records of one partition are done, running or to come, when jobs end in any order.
///
/// Everything below `low_water()` is done. Above it stand the delivered records that are not done
/// ("in flight") and, between them, runs of done ones. Offsets that were never delivered although a
/// higher one was (compaction, transaction markers, aborted records) do not exist and count as
/// done, so the state needs room for the records in flight only, however far the window reaches.
///
/// It travels in the commit metadata, with the number of attempts of each record in flight, as
/// ASCII: `onnxferry1;d=<runs>;a=<attempts>`, numbers in base 36 relative to the committed offset.
/// Anything else (another program's metadata, a newer version's) means "nothing above the offset is
/// done": work may be repeated then, never lost.
///
/// Plain value, copied to see what a commit would say before it is confirmed. Thread: one.
class OffsetTracker {
 public:
  /// offset.metadata.max.bytes of a broker that was not told otherwise.
  static constexpr std::size_t kMaxMetadataBytes = 4096;

  enum class Admission : std::uint8_t {
    kNew,        ///< now in flight
    kDuplicate,  ///< in flight already, or done: drop it
  };

  OffsetTracker() = default;
  explicit OffsetTracker(const CommittedOffset& committed);

  /// A record arrived. The caller stops fetching while `is_full()`; a record that arrives
  /// nevertheless is taken, so nothing is skipped.
  Admission deliver(std::int64_t offset);

  /// The partition ends here for now: what was not delivered below does not exist (transaction
  /// markers, aborted records).
  void reach_end(std::int64_t offset);

  /// Done: answered. \pre offset is in flight
  void complete(std::int64_t offset);

  /// Attempts that were started and have not ended in a reply.
  [[nodiscard]] unsigned attempts(std::int64_t offset) const;
  void start_attempt(std::int64_t offset) { ++attempts_[offset]; }
  /// Take back an attempt that the worker itself ended (shutdown, lost partition).
  void release_attempt(std::int64_t offset);

  [[nodiscard]] bool is_done(std::int64_t offset) const;
  [[nodiscard]] bool is_in_flight(std::int64_t offset) const { return in_flight_.contains(offset); }
  [[nodiscard]] std::size_t in_flight() const { return in_flight_.size(); }
  /// Highest delivered offset + 1 - low water.
  [[nodiscard]] std::int64_t window() const;
  /// The next records' state might not fit into the metadata any more.
  [[nodiscard]] bool is_full() const;
  /// The first offset that is not done; absent: nothing was committed or delivered yet.
  [[nodiscard]] std::optional<std::int64_t> low_water() const;

  /// What to commit. Its offset never moves backwards. \pre low_water() has a value
  [[nodiscard]] CommittedOffset commit() const;

 private:
  void skip_to(std::int64_t offset);
  void add_done(std::int64_t begin, std::int64_t end);
  void parse(std::string_view metadata, std::int64_t base);

  std::optional<std::int64_t>
      base_;  ///< first offset not known to be done when nothing is in flight
  std::optional<std::int64_t> next_;  ///< highest delivered offset + 1
  std::set<std::int64_t> in_flight_;
  std::map<std::int64_t, std::int64_t> done_;  ///< begin → end of runs above the low water
  std::map<std::int64_t, unsigned> attempts_;
};

}  // namespace onnxferry
