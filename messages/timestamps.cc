#include "messages/timestamps.h"

#include <google/protobuf/util/time_util.h>

namespace onnxferry::messages {

using std::chrono::duration_cast;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using std::chrono::system_clock;

google::protobuf::Timestamp to_timestamp(system_clock::time_point time) {
  const auto whole = std::chrono::floor<seconds>(time);
  google::protobuf::Timestamp timestamp;
  timestamp.set_seconds(whole.time_since_epoch().count());
  timestamp.set_nanos(static_cast<std::int32_t>(duration_cast<nanoseconds>(time - whole).count()));
  return timestamp;
}

system_clock::time_point to_time_point(const google::protobuf::Timestamp& timestamp) {
  // The clock counts nanoseconds in 64 bits (years 1678 to 2261); Timestamp reaches 0001 to 9999.
  constexpr auto kMax = std::chrono::floor<seconds>(system_clock::time_point::max()) - seconds(1);
  constexpr auto kMin = std::chrono::ceil<seconds>(system_clock::time_point::min()) + seconds(1);
  if (timestamp.seconds() >= kMax.time_since_epoch().count()) {
    return system_clock::time_point::max();
  }
  if (timestamp.seconds() <= kMin.time_since_epoch().count()) {
    return system_clock::time_point::min();
  }
  return system_clock::time_point(
      duration_cast<system_clock::duration>(seconds(timestamp.seconds())) +
      duration_cast<system_clock::duration>(nanoseconds(timestamp.nanos())));
}

std::string to_rfc3339(system_clock::time_point time) {
  return google::protobuf::util::TimeUtil::ToString(to_timestamp(time));
}

std::string to_rfc3339(const google::protobuf::Timestamp& timestamp) {
  return google::protobuf::util::TimeUtil::ToString(timestamp);
}

bool parse_rfc3339(const std::string& text, google::protobuf::Timestamp& timestamp) {
  return google::protobuf::util::TimeUtil::FromString(text, &timestamp);
}

bool is_in_range(const google::protobuf::Timestamp& timestamp) {
  using google::protobuf::util::TimeUtil;
  return timestamp.seconds() >= TimeUtil::kTimestampMinSeconds &&
         timestamp.seconds() <= TimeUtil::kTimestampMaxSeconds && timestamp.nanos() >= 0 &&
         timestamp.nanos() <= 999'999'999;
}

}  // namespace onnxferry::messages
