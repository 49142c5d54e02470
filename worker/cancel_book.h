#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "messages/codec.h"

namespace onnxferry {

/// Which requests are cancelled, as far as the cancel topic says. Pure logic. Thread: one.
///
/// A cancel may arrive before its request and outlives its job (the record may be delivered again),
/// so ids are remembered until a null value takes them back. Memory is bounded: past `max_ids` the
/// oldest is forgotten.
class CancelBook {
 public:
  /// About 35 MB at the most: ids have up to 256 bytes, reasons 200.
  static constexpr std::size_t kMaxIds = 50'000;

  explicit CancelBook(std::size_t max_ids = kMaxIds) : max_ids_(max_ids) {}

  /// \return the id that had to be forgotten for it, or ""
  std::string note(const messages::CancelRecord& record);

  /// Whether a request sent at `sent_ms` is cancelled. A request sent after the cancel is a new one
  /// under an old id. Without a time on either record the cancel applies.
  /// \return its reason (may be empty), nullopt when it is not cancelled
  [[nodiscard]] std::optional<std::string> find(const std::string& request_id,
                                                std::int64_t sent_ms) const;

  [[nodiscard]] std::size_t size() const { return cancels_.size(); }

 private:
  struct Entry {
    std::int64_t timestamp_ms = -1;
    std::string reason;
  };
  void erase(const std::string& request_id);

  std::size_t max_ids_;
  std::map<std::string, Entry> cancels_;
  std::set<std::pair<std::int64_t, std::string>> by_age_;
};

}  // namespace onnxferry
