#include "worker/problems.h"

#include <utility>

#include <fmt/format.h>

namespace onnxferry {
namespace {

constexpr std::size_t kMaxShown = 5;

}  // namespace

Error make_problems_error(ErrorCode code, std::vector<FieldProblem> problems) {
  EXPORT_CHECK(!problems.empty(), "an error without problems");
  std::string message =
      problems.size() == 1 ? std::string() : fmt::format("{} problems: ", problems.size());
  for (std::size_t i = 0; i < problems.size() && i < kMaxShown; ++i) {
    message += i == 0 ? "" : "; ";
    message += problems[i].field.empty()
                   ? problems[i].text
                   : fmt::format("{}: {}", problems[i].field, problems[i].text);
  }
  if (problems.size() > kMaxShown) {
    message += fmt::format("; and {} more in details", problems.size() - kMaxShown);
  }
  Error error(code, message, problems.front().field);
  error.set_problems(std::move(problems));
  return error;
}

}  // namespace onnxferry
