#include "worker/cancel_book.h"

#include <gtest/gtest.h>

namespace onnxferry {
namespace {

messages::CancelRecord cancel(std::string id, std::int64_t at, std::string reason = "") {
  return {.request_id = std::move(id), .timestamp_ms = at, .reason = std::move(reason)};
}

TEST(CancelBook, CancelsRequestsSentUntilThen) {
  CancelBook book;
  book.note(cancel("r", 1'000, "why"));
  EXPECT_EQ(book.find("r", 999), "why");
  EXPECT_EQ(book.find("r", 1'000), "why");
  EXPECT_EQ(book.find("r", 1'001), std::nullopt) << "a new request under an old id";
  EXPECT_EQ(book.find("other", 999), std::nullopt);
}

TEST(CancelBook, CancelsWhenATimeIsMissing) {
  CancelBook book;
  book.note(cancel("r", 1'000));
  EXPECT_EQ(book.find("r", -1), "");
  book.note(cancel("r", -1));
  EXPECT_EQ(book.find("r", 5'000), "");
}

TEST(CancelBook, KeepsTheLastRecordOfAnId) {
  CancelBook book;
  book.note(cancel("r", 1'000));
  book.note(cancel("r", 2'000));
  EXPECT_EQ(book.find("r", 1'500), "");
  EXPECT_EQ(book.size(), 1U);
  book.note({.request_id = "r", .timestamp_ms = 3'000, .is_removed = true, .reason = {}});
  EXPECT_EQ(book.find("r", 1'500), std::nullopt);
  EXPECT_EQ(book.size(), 0U);
}

TEST(CancelBook, ForgetsTheOldestWhenFull) {
  CancelBook book(2);
  EXPECT_EQ(book.note(cancel("new", 3'000)), "");
  EXPECT_EQ(book.note(cancel("old", 1'000)), "");
  EXPECT_EQ(book.note(cancel("new", 3'500)), "") << "known already";
  EXPECT_EQ(book.note(cancel("middle", 2'000)), "old");
  EXPECT_EQ(book.size(), 2U);
  EXPECT_EQ(book.find("old", 0), std::nullopt);
  EXPECT_EQ(book.find("new", 0), "");
}

}  // namespace
}  // namespace onnxferry
