#include "pipeline/checkpoint/model_config.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "pipeline/error.h"

namespace onnxferry {

using Json = nlohmann::json;

struct ModelConfig::State {
  Json document;
  std::set<std::string, std::less<>> consumed;

  /// nullptr for null, too.
  const Json* find(const std::string& path) {
    const Json* const node = find_or_null(path);
    return node == nullptr || node->is_null() ? nullptr : node;
  }

  const Json* find_or_null(const std::string& path) {
    const Json* node = &document;
    std::size_t begin = 0;
    while (begin <= path.size()) {
      const std::size_t end = std::min(path.find('.', begin), path.size());
      const auto it = node->find(path.substr(begin, end - begin));
      if (!node->is_object() || it == node->end()) {
        return nullptr;
      }
      node = &*it;
      begin = end + 1;
    }
    return node;
  }
};

namespace {

constexpr std::uint64_t kMaxConfigBytes = 16ULL << 20;
constexpr std::int64_t kMaxDimension = 1LL << 31;
// Real ones nest four levels. What walks the document may then recurse.
constexpr int kMaxDepth = 64;

std::string shown(const Json& value) {
  constexpr std::size_t kMaxShown = 80;
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kMaxShown) {
    text.resize(kMaxShown);
    text += "…";
  }
  return text;
}

[[noreturn]] void throw_wrong_type(const std::string& path,
                                   const Json& found,
                                   std::string_view expected) {
  throw Error(ErrorCode::kCorruptCheckpoint,
              fmt::format("config.json: {} is {}, expected {}", path, shown(found), expected),
              path);
}

[[noreturn]] void throw_missing(const std::string& path) {
  throw Error(ErrorCode::kCorruptCheckpoint,
              fmt::format("config.json has no {}, which this model type needs", path),
              path);
}

std::int64_t to_integer(const std::string& path, const Json& value) {
  if (value.is_number_integer() &&
      !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
    return value.get<std::int64_t>();
  }
  // Some tools write 2.0 for 2.
  if (value.is_number_float() && std::trunc(value.get<double>()) == value.get<double>() &&
      std::abs(value.get<double>()) < 9e15) {
    return static_cast<std::int64_t>(value.get<double>());
  }
  throw_wrong_type(path, value, "an integer");
}

/// These two names go into messages, logs and the manifest as they are.
void check_name(const std::string& name, std::string_view key) {
  constexpr std::size_t kMaxNameBytes = 128;
  const bool is_printable = std::ranges::all_of(name, [](char c) { return c > ' ' && c < 0x7F; });
  if (name.size() > kMaxNameBytes || !is_printable) {
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("config.json: {} is {}; expected at most {} ASCII characters, none of "
                            "them a space or control character",
                            key,
                            shown(name),
                            kMaxNameBytes),
                std::string(key));
  }
}

double to_number(const std::string& path, const Json& value) {
  if (!value.is_number()) {
    throw_wrong_type(path, value, "a number");
  }
  return value.get<double>();
}

bool is_dimension(std::int64_t value) {
  return value >= 1 && value <= kMaxDimension;
}

bool is_neutral(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         ((value.is_object() || value.is_array()) && value.empty());
}

void collect_leaves(const Json& node,
                    const std::string& path,
                    std::vector<ModelConfig::Leftover>& out) {
  if (!node.is_object()) {
    out.push_back({path, shown(node)});
    return;
  }
  for (const auto& [key, value] : node.items()) {
    if (!is_neutral(value)) {
      collect_leaves(value, path.empty() ? key : fmt::format("{}.{}", path, key), out);
    }
  }
}

}  // namespace

ModelConfig::ModelConfig(std::shared_ptr<State> state, std::string prefix)
    : state_(std::move(state)), prefix_(std::move(prefix)) {}

ModelConfig ModelConfig::parse(std::string_view json) {
  auto state = std::make_shared<State>();
  try {
    state->document = Json::parse(json, [](int depth, Json::parse_event_t, const Json&) {
      if (depth > kMaxDepth) {
        throw Error(ErrorCode::kCorruptCheckpoint,
                    fmt::format("config.json nests deeper than {} levels", kMaxDepth),
                    "config.json");
      }
      return true;
    });
  } catch (const Json::exception& error) {
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("config.json is not valid JSON: {}", error.what()),
                "config.json");
  }
  if (!state->document.is_object()) {
    throw Error(ErrorCode::kCorruptCheckpoint, "config.json is not a JSON object", "config.json");
  }
  return {std::move(state), ""};
}

ModelConfig ModelConfig::load(const std::filesystem::path& directory) {
  const auto path = directory / "config.json";
  std::error_code missing;
  const auto bytes = std::filesystem::file_size(path, missing);
  if (missing) {
    throw Error(ErrorCode::kCorruptCheckpoint,
                "there is no config.json; a Hugging Face model directory is expected",
                "config.json");
  }
  if (bytes > kMaxConfigBytes) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("config.json has {} bytes, more than {}", bytes, kMaxConfigBytes),
                "config.json");
  }
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return parse(text);
}

std::string ModelConfig::model_type() const {
  std::string name = text("model_type", "");
  check_name(name, "model_type");
  return name;
}

std::string ModelConfig::architecture_class() const {
  const auto classes = find_texts("architectures");
  std::string name = classes && !classes->empty() ? classes->front() : "";
  check_name(name, "architectures");
  return name;
}

bool ModelConfig::has(std::string_view key) const {
  return state_->find(prefix_ + std::string(key)) != nullptr;
}

bool ModelConfig::is_null(std::string_view key) const {
  const Json* const value = state_->find_or_null(prefix_ + std::string(key));
  return value != nullptr && value->is_null();
}

std::optional<std::int64_t> ModelConfig::nullable_integer(std::string_view key,
                                                          std::int64_t when_absent) const {
  const auto value = find_integer(key);
  return is_null(key) ? std::nullopt : std::optional(value.value_or(when_absent));
}

std::optional<double> ModelConfig::nullable_number(std::string_view key, double when_absent) const {
  const auto value = find_number(key);
  return is_null(key) ? std::nullopt : std::optional(value.value_or(when_absent));
}

std::optional<std::int64_t> ModelConfig::find_integer(std::string_view key) const {
  const std::string path = prefix_ + std::string(key);
  state_->consumed.insert(path);
  const Json* const value = state_->find(path);
  return value == nullptr ? std::nullopt : std::optional(to_integer(path, *value));
}

std::optional<double> ModelConfig::find_number(std::string_view key) const {
  const std::string path = prefix_ + std::string(key);
  state_->consumed.insert(path);
  const Json* const value = state_->find(path);
  return value == nullptr ? std::nullopt : std::optional(to_number(path, *value));
}

std::optional<std::string> ModelConfig::find_text(std::string_view key) const {
  const std::string path = prefix_ + std::string(key);
  state_->consumed.insert(path);
  const Json* const value = state_->find(path);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_string()) {
    throw_wrong_type(path, *value, "a string");
  }
  return value->get<std::string>();
}

std::optional<std::vector<std::string>> ModelConfig::find_texts(std::string_view key) const {
  const std::string path = prefix_ + std::string(key);
  state_->consumed.insert(path);
  const Json* const value = state_->find(path);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_array() ||
      !std::ranges::all_of(*value, [](const Json& item) { return item.is_string(); })) {
    throw_wrong_type(path, *value, "a list of strings");
  }
  return value->get<std::vector<std::string>>();
}

std::vector<std::string> ModelConfig::words(std::string_view key) const {
  const Json* const value = state_->find(prefix_ + std::string(key));
  if (value == nullptr || !value->is_string()) {
    return find_texts(key).value_or(std::vector<std::string>());
  }
  std::vector<std::string> result(1);
  for (const char c : text(key, "")) {
    if (c == '|') {
      result.emplace_back();
    } else if (c != ' ') {
      result.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return result;
}

std::optional<std::vector<double>> ModelConfig::find_numbers(std::string_view key) const {
  const std::string path = prefix_ + std::string(key);
  state_->consumed.insert(path);
  const Json* const value = state_->find(path);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_array() ||
      !std::ranges::all_of(*value, [](const Json& item) { return item.is_number(); })) {
    throw_wrong_type(path, *value, "a list of numbers");
  }
  return value->get<std::vector<double>>();
}

std::vector<std::int64_t> ModelConfig::integers(std::string_view key, std::size_t count) const {
  const std::string path = prefix_ + std::string(key);
  state_->consumed.insert(path);
  const Json* const value = state_->find(path);
  std::vector<std::int64_t> result;
  if (value != nullptr && value->is_array()) {
    for (const Json& item : *value) {
      result.push_back(to_integer(path, item));
    }
  } else if (value != nullptr) {
    result.assign(count, to_integer(path, *value));
  }
  return result;
}

std::optional<ModelConfig> ModelConfig::find_object(std::string_view key) const {
  const std::string path = prefix_ + std::string(key);
  const Json* const value = state_->find(path);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_object()) {
    throw_wrong_type(path, *value, "an object");
  }
  return ModelConfig(state_, path + ".");
}

std::int64_t ModelConfig::integer(std::string_view key) const {
  const auto value = find_integer(key);
  if (!value) {
    throw_missing(prefix_ + std::string(key));
  }
  return *value;
}

std::int64_t ModelConfig::integer(std::string_view key, std::int64_t when_absent) const {
  return find_integer(key).value_or(when_absent);
}

double ModelConfig::number(std::string_view key) const {
  const auto value = find_number(key);
  if (!value) {
    throw_missing(prefix_ + std::string(key));
  }
  return *value;
}

double ModelConfig::number(std::string_view key, double when_absent) const {
  return find_number(key).value_or(when_absent);
}

bool ModelConfig::boolean(std::string_view key, bool when_absent) const {
  const std::string path = prefix_ + std::string(key);
  state_->consumed.insert(path);
  const Json* const value = state_->find(path);
  if (value == nullptr) {
    return when_absent;
  }
  if (!value->is_boolean()) {
    throw_wrong_type(path, *value, "true or false");
  }
  return value->get<bool>();
}

std::string ModelConfig::text(std::string_view key, std::string_view when_absent) const {
  return find_text(key).value_or(std::string(when_absent));
}

void ModelConfig::disregard(std::string_view key) const {
  state_->consumed.insert(prefix_ + std::string(key));
}

std::int64_t ModelConfig::num_labels() const {
  const std::string path = prefix_ + "id2label";
  state_->consumed.insert(path);
  const Json* const labels = state_->find(path);
  if (labels != nullptr && labels->is_object() && !labels->empty()) {
    return static_cast<std::int64_t>(labels->size());
  }
  return dimension("num_labels", 2);
}

std::int64_t ModelConfig::dimension(std::string_view key) const {
  const std::int64_t value = integer(key);
  if (!is_dimension(value)) {
    refuse(key, "expected a positive size");
  }
  return value;
}

std::optional<std::vector<std::int64_t>> ModelConfig::dimensions(std::string_view key,
                                                                 std::size_t count) const {
  auto values = integers(key, count);
  if (!std::ranges::all_of(values, is_dimension)) {
    refuse(key, "expected positive sizes");
  }
  return has(key) ? std::optional(std::move(values)) : std::nullopt;
}

std::int64_t ModelConfig::dimension(std::string_view key, std::int64_t when_absent) const {
  return has(key) ? dimension(key) : (static_cast<void>(find_integer(key)), when_absent);
}

void ModelConfig::refuse(std::string_view key, std::string_view why) const {
  const std::string path = prefix_ + std::string(key);
  const Json* const value = state_->find(path);
  throw Error(
      ErrorCode::kUnsupportedModel,
      fmt::format(
          "config.json: {} is {}; {}", path, value == nullptr ? "absent" : shown(*value), why),
      path);
}

std::vector<ModelConfig::Leftover> ModelConfig::leftovers() const {
  std::vector<Leftover> leaves;
  collect_leaves(state_->document, "", leaves);
  const auto is_consumed = [&](const Leftover& leaf) {
    // A consumed object (id2label) covers its leaves.
    for (std::size_t end = leaf.path.size(); end != std::string::npos && end > 0;
         end = leaf.path.rfind('.', end - 1)) {
      if (state_->consumed.contains(leaf.path.substr(0, end))) {
        return true;
      }
    }
    return false;
  };
  std::erase_if(leaves, is_consumed);
  std::ranges::sort(leaves, {}, &Leftover::path);
  return leaves;
}

}  // namespace onnxferry
