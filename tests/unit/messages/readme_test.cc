#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "messages/headers.h"
#include "onnxferry/v1/export.pb.h"
#include "tests/support/tests_dir.h"

namespace onnxferry::messages {
namespace {

using testing::HasSubstr;

std::string readme() {
  std::ifstream file(tests_dir().string() + "/../messages/README.md");
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Readme, HasARowForEveryErrorCode) {
  const auto* codes = v1::ErrorCode_descriptor();
  for (int i = 1; i < codes->value_count(); ++i) {
    EXPECT_THAT(readme(), HasSubstr("| `" + codes->value(i)->name() + "` |"));
  }
}

TEST(Readme, NamesEveryRequestField) {
  const auto* request = v1::ExportRequest::descriptor();
  for (int i = 0; i < request->field_count(); ++i) {
    EXPECT_THAT(readme(), HasSubstr("`" + request->field(i)->name() + "`"));
  }
}

TEST(Readme, NamesEveryEventType) {
  for (const std::string_view type : {kTypeRequested,
                                      kTypeCompleted,
                                      kTypeFailed,
                                      kTypeCancelled,
                                      kTypeProgress,
                                      kTypeCancelRequested}) {
    EXPECT_THAT(readme(), HasSubstr(std::string(type)));
  }
}

}  // namespace
}  // namespace onnxferry::messages
