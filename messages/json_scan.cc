#include "messages/json_scan.h"

#include <algorithm>
#include <set>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "messages/text.h"

namespace onnxferry::messages {
namespace {

constexpr std::size_t kMaxKeyBytes = 60;  // in paths; longer keys are shown shortened

class Scanner : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<v1::FieldProblem> problems;

  bool null() override { return next_element(); }
  bool boolean(bool /*value*/) override { return next_element(); }
  bool number_integer(number_integer_t /*value*/) override { return next_element(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return next_element(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return next_element();
  }
  bool string(string_t& /*value*/) override { return next_element(); }
  bool binary(binary_t& /*value*/) override { return next_element(); }

  bool start_object(std::size_t /*size*/) override { return open(false); }
  bool start_array(std::size_t /*size*/) override { return open(true); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    level.key = name;
    if (!level.keys.insert(name).second && problems.size() < kMaxProblems) {
      problems.push_back(make_problem(path(), "given twice; give each field once"));
    }
    return true;
  }

  bool parse_error(std::size_t position,
                   const std::string& /*token*/,
                   const nlohmann::json::exception& error) override {
    // Its message begins with a class name in brackets and, for syntax errors, the position again
    // up to ": "; the rest says what was found and expected. It may quote the input, hence quote().
    std::string_view what = error.what();
    what.remove_prefix(std::min(what.size(), what.find("] ") + 2));
    if (const std::size_t at = what.find(": "); at != std::string_view::npos) {
      what.remove_prefix(at + 2);
    }
    const std::string text = quote(what, 200);
    problems.push_back(make_problem(
        levels_.empty() ? "" : path(),
        fmt::format("not valid JSON at byte {}: {}", position, text.substr(1, text.size() - 2))));
    return false;
  }

 private:
  struct Level {
    bool is_array = false;
    std::size_t index = 0;
    std::string key;
    std::set<std::string, std::less<>> keys;
  };

  bool next_element() {
    if (!levels_.empty()) {
      ++levels_.back().index;
    }
    return true;
  }

  bool open(bool is_array) {
    if (levels_.size() == kMaxJsonDepth) {
      problems.push_back(
          make_problem(path(), fmt::format("nested deeper than {} levels", kMaxJsonDepth)));
      return false;
    }
    levels_.push_back({.is_array = is_array, .index = 0, .key = {}, .keys = {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    return next_element();
  }

  [[nodiscard]] std::string path() const {
    std::string text;
    for (const Level& level : levels_) {
      if (level.is_array) {
        text += fmt::format("[{}]", level.index);
      } else if (!level.key.empty()) {
        text = join_path(text, level.key);
      }
    }
    return text;
  }

  std::vector<Level> levels_;
};

}  // namespace

v1::FieldProblem make_problem(std::string_view field, std::string_view text) {
  v1::FieldProblem problem;
  problem.set_field(std::string(field));
  problem.set_text(std::string(text));
  return problem;
}

std::string join_path(std::string_view parent, std::string_view key) {
  const std::string quoted = quote(key, kMaxKeyBytes);
  const std::string_view shown = std::string_view(quoted).substr(1, quoted.size() - 2);
  return parent.empty() ? std::string(shown) : fmt::format("{}.{}", parent, shown);
}

JsonScan scan_json(std::string_view text) {
  Scanner scanner;
  const bool complete = nlohmann::json::sax_parse(text, &scanner);
  return {std::move(scanner.problems), complete};
}

}  // namespace onnxferry::messages
