#include "worker/cancel_book.h"

namespace onnxferry {

std::string CancelBook::note(const messages::CancelRecord& record) {
  erase(record.request_id);
  if (record.is_removed) {
    return {};
  }
  cancels_[record.request_id] = {record.timestamp_ms, record.reason};
  by_age_.emplace(record.timestamp_ms, record.request_id);
  if (cancels_.size() <= max_ids_) {
    return {};
  }
  std::string oldest = by_age_.begin()->second;
  erase(oldest);
  return oldest;
}

std::optional<std::string> CancelBook::find(const std::string& request_id,
                                            std::int64_t sent_ms) const {
  const auto found = cancels_.find(request_id);
  if (found == cancels_.end()) {
    return std::nullopt;
  }
  const Entry& entry = found->second;
  const bool is_later_request = entry.timestamp_ms >= 0 && sent_ms > entry.timestamp_ms;
  return is_later_request ? std::nullopt : std::optional(entry.reason);
}

void CancelBook::erase(const std::string& request_id) {
  const auto found = cancels_.find(request_id);
  if (found != cancels_.end()) {
    by_age_.erase({found->second.timestamp_ms, request_id});
    cancels_.erase(found);
  }
}

}  // namespace onnxferry
