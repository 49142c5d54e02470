#include "pipeline/checkpoint/pickle_input.h"

#include <algorithm>

#include <fmt/format.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr std::uint64_t kMaxTextBytes = 1U << 20;
constexpr std::size_t kMaxLineBytes = 1024;

}  // namespace

void PickleInput::refill() {
  const std::uint64_t count = std::min<std::uint64_t>(buffer_.size(), end_ - loaded_end_);
  if (count == 0 ||
      !file_.read_exactly(loaded_end_, std::span(buffer_).first(static_cast<std::size_t>(count)))) {
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("{}: the pickle ends at byte {} without its STOP; it is truncated",
                            file_.name(),
                            loaded_end_),
                file_.name());
  }
  loaded_end_ += count;
  filled_ = static_cast<std::size_t>(count);
  next_ = 0;
}

std::uint8_t PickleInput::byte() {
  if (next_ == filled_) {
    refill();
  }
  return std::to_integer<std::uint8_t>(buffer_[next_++]);
}

std::uint64_t PickleInput::number(std::size_t width) {
  EXPORT_CHECK(width <= 8, "a number of more than 64 bits");
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < width; ++i) {
    value |= std::uint64_t{byte()} << (8 * i);
  }
  return value;
}

std::string PickleInput::text(std::uint64_t count) {
  if (count > kMaxTextBytes) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("{}: the pickle has a string of {} bytes at byte {}, expected at most "
                            "{}",
                            file_.name(),
                            count,
                            position(),
                            kMaxTextBytes),
                file_.name());
  }
  std::string text;
  text.reserve(static_cast<std::size_t>(std::min(count, left())));  // a claim reserves nothing
  while (text.size() < count) {
    if (next_ == filled_) {
      refill();
    }
    const std::size_t piece =
        std::min(static_cast<std::size_t>(count) - text.size(), filled_ - next_);
    text.append(reinterpret_cast<const char*>(buffer_.data()) + next_, piece);
    next_ += piece;
  }
  return text;
}

std::string PickleInput::line() {
  std::string line;
  for (char c = static_cast<char>(byte()); c != '\n'; c = static_cast<char>(byte())) {
    if (line.size() == kMaxLineBytes) {
      throw Error(ErrorCode::kLimitExceeded,
                  fmt::format("{}: the pickle has a line of more than {} bytes at byte {}",
                              file_.name(),
                              kMaxLineBytes,
                              position()),
                  file_.name());
    }
    line.push_back(c);
  }
  return line;
}

}  // namespace onnxferry
