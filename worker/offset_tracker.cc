#include "worker/offset_tracker.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <vector>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr std::string_view kMagic = "onnxferry1;d=";
constexpr std::string_view kAttempts = ";a=";
constexpr int kRadix = 36;
// A record in flight costs at most one run (two numbers) and one attempt entry (two numbers) of at
// most 13 base 36 digits each, with their separators.
constexpr std::size_t kBytesPerRecord = 4 * 14;

void append_number(std::string& text, std::uint64_t number) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number, kRadix).ptr;
  text.append(digits.data(), end);
}

/// One "a-b" or "a:b" entry, a comma-separated list of them; nullopt when it is not ours.
struct NumberPair {
  std::int64_t first;
  std::int64_t second;
};

std::optional<std::int64_t> read_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, kRadix);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    return std::nullopt;
  }
  return value;
}

std::optional<std::vector<NumberPair>> read_pairs(std::string_view text, char separator) {
  std::vector<NumberPair> pairs;
  while (!text.empty()) {
    const std::string_view entry = text.substr(0, text.find(','));
    const std::size_t middle = entry.find(separator);
    if (middle == std::string_view::npos) {
      return std::nullopt;
    }
    const auto first = read_number(entry.substr(0, middle));
    const auto second = read_number(entry.substr(middle + 1));
    if (!first || !second) {
      return std::nullopt;
    }
    pairs.push_back({*first, *second});
    text.remove_prefix(std::min(text.size(), entry.size() + 1));
  }
  return pairs;
}

}  // namespace

OffsetTracker::OffsetTracker(const CommittedOffset& committed) {
  if (committed.offset && *committed.offset >= 0) {
    base_ = committed.offset;
    parse(committed.metadata, *committed.offset);
  }
}

void OffsetTracker::parse(std::string_view metadata, std::int64_t base) {
  if (!metadata.starts_with(kMagic)) {
    return;
  }
  metadata.remove_prefix(kMagic.size());
  const std::size_t split = metadata.find(kAttempts);
  if (split == std::string_view::npos) {
    return;
  }
  const auto runs = read_pairs(metadata.substr(0, split), '-');
  const auto attempts = read_pairs(metadata.substr(split + kAttempts.size()), ':');
  // Sums must not overflow, and no record is tried a million times: such metadata is not ours.
  const std::int64_t room = INT64_MAX - base;
  const auto is_run = [&](const NumberPair& run) {
    return run.first < run.second && run.second <= room;
  };
  const auto is_attempt = [&](const NumberPair& entry) {
    return entry.first < room && entry.second > 0 && entry.second < 1'000'000;
  };
  if (!runs || !attempts || !std::ranges::all_of(*runs, is_run) ||
      !std::ranges::all_of(*attempts, is_attempt)) {
    return;
  }
  for (const auto& [begin, end] : *runs) {
    add_done(base + begin, base + end);
  }
  for (const auto& [distance, count] : *attempts) {
    // Below the low water there is nothing to try; commit() could not express it either.
    if (base + distance >= *base_) {
      attempts_[base + distance] = static_cast<unsigned>(count);
    }
  }
}

OffsetTracker::Admission OffsetTracker::deliver(std::int64_t offset) {
  if (!base_) {
    base_ = offset;
  }
  if (is_done(offset) || in_flight_.contains(offset)) {
    return Admission::kDuplicate;
  }
  skip_to(offset);
  in_flight_.insert(offset);
  next_ = std::max(next_.value_or(offset + 1), offset + 1);
  return Admission::kNew;
}

void OffsetTracker::reach_end(std::int64_t offset) {
  if (!base_) {
    base_ = offset;
  }
  skip_to(offset);
  next_ = std::max(next_.value_or(offset), offset);
}

// Records arrive in offset order: what was passed over since the last one does not exist.
void OffsetTracker::skip_to(std::int64_t offset) {
  const std::int64_t expected = std::max(next_.value_or(*base_), *base_);
  if (offset > expected) {
    add_done(expected, offset);
  }
}

void OffsetTracker::complete(std::int64_t offset) {
  EXPORT_CHECK(in_flight_.erase(offset) == 1, "completed a record that is not in flight");
  attempts_.erase(offset);
  add_done(offset, offset + 1);
}

unsigned OffsetTracker::attempts(std::int64_t offset) const {
  const auto found = attempts_.find(offset);
  return found == attempts_.end() ? 0 : found->second;
}

void OffsetTracker::release_attempt(std::int64_t offset) {
  const auto found = attempts_.find(offset);
  if (found != attempts_.end() && --found->second == 0) {
    attempts_.erase(found);
  }
}

bool OffsetTracker::is_done(std::int64_t offset) const {
  if (base_ && offset < *base_) {
    return true;
  }
  const auto after = done_.upper_bound(offset);
  return after != done_.begin() && offset < std::prev(after)->second;
}

std::int64_t OffsetTracker::window() const {
  const auto low = low_water();
  return low && next_ ? std::max<std::int64_t>(0, *next_ - *low) : 0;
}

bool OffsetTracker::is_full() const {
  const std::size_t entries = std::max({in_flight_.size(), attempts_.size(), done_.size()}) + 1;
  return entries * kBytesPerRecord + kMagic.size() + kAttempts.size() > kMaxMetadataBytes * 3 / 4;
}

std::optional<std::int64_t> OffsetTracker::low_water() const {
  return base_;
}

CommittedOffset OffsetTracker::commit() const {
  EXPORT_CHECK(base_.has_value(), "nothing to commit yet");
  std::string metadata(kMagic);
  for (const auto& [begin, end] : done_) {
    append_number(metadata, static_cast<std::uint64_t>(begin - *base_));
    metadata += '-';
    append_number(metadata, static_cast<std::uint64_t>(end - *base_));
    metadata += ',';
  }
  if (metadata.ends_with(',')) {
    metadata.pop_back();
  }
  metadata += kAttempts;
  for (const auto& [offset, count] : attempts_) {
    append_number(metadata, static_cast<std::uint64_t>(offset - *base_));
    metadata += ':';
    append_number(metadata, count);
    metadata += ',';
  }
  if (metadata.ends_with(',')) {
    metadata.pop_back();
  }
  return {base_, std::move(metadata)};
}

// Insert the run, join it with its neighbours, and move the base up when the run touches it.
void OffsetTracker::add_done(std::int64_t begin, std::int64_t end) {
  auto next = done_.lower_bound(begin);
  if (next != done_.begin() && std::prev(next)->second >= begin) {
    --next;
    begin = next->first;
    end = std::max(end, next->second);
    next = done_.erase(next);
  }
  while (next != done_.end() && next->first <= end) {
    end = std::max(end, next->second);
    next = done_.erase(next);
  }
  if (begin > *base_) {
    done_.emplace(begin, end);
    return;
  }
  base_ = std::max(*base_, end);
  attempts_.erase(attempts_.begin(), attempts_.lower_bound(*base_));
}

}  // namespace onnxferry
