#include "pipeline/checkpoint/index.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "pipeline/checkpoint/json_events.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr std::size_t kMaxShards = 512;
constexpr std::size_t kMaxTensors = 1'000'000;
constexpr std::size_t kMaxDepth = 16;

class IndexReader final : public JsonEvents {
 public:
  explicit IndexReader(std::string_view file_name) : file_name_(file_name) {}

  std::vector<std::pair<std::string, std::string>> take_entries() { return std::move(entries_); }
  [[nodiscard]] bool has_map() const { return has_map_; }

  bool null() override { return ignore("null"); }
  bool boolean(bool /*value*/) override { return ignore("a boolean"); }
  bool number_integer(number_integer_t /*value*/) override { return ignore("a number"); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return ignore("a number"); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return ignore("a number");
  }

  bool string(string_t& value) override {
    if (!in_map_) {
      return ignore("a string");
    }
    if (entries_.size() == kMaxTensors) {
      fail(fmt::format("lists more than {} tensors", kMaxTensors));
    }
    entries_.emplace_back(key_, value);
    return true;
  }

  bool key(string_t& name) override {
    key_ = name;
    if (depth_ == 1 && name == "weight_map" && std::exchange(has_map_, true)) {
      fail("has weight_map twice");
    }
    return true;
  }

  bool start_object(std::size_t /*size*/) override {
    const bool is_map = depth_ == 1 && key_ == "weight_map";
    if (!is_map) {
      ignore("an object");
    }
    in_map_ = is_map;
    return enter();
  }
  bool start_array(std::size_t /*size*/) override {
    ignore("an array");
    return enter();
  }
  bool end_object() override {
    in_map_ = false;
    --depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }

  [[noreturn]] void fail(const std::string& text) override {
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("{}: the index {}", file_name_, text),
                file_name_);
  }

 private:
  /// A value outside weight_map is nobody's business; weight_map itself and its values are ours.
  bool ignore(std::string_view found) {
    if (in_map_ || (depth_ == 1 && key_ == "weight_map")) {
      refuse(found);
    }
    return true;
  }

  bool enter() {
    if (++depth_ > kMaxDepth) {
      fail(fmt::format("nests deeper than {} levels", kMaxDepth));
    }
    return true;
  }

  [[noreturn]] bool refuse(std::string_view found) override {
    if (in_map_) {
      fail(fmt::format("maps tensor {} to {}; expected a file name", quote(key_), found));
    }
    fail(fmt::format("has {} as weight_map; expected an object", found));
  }

  std::string file_name_;
  std::string key_;
  std::size_t depth_ = 0;
  bool in_map_ = false;
  bool has_map_ = false;
  std::vector<std::pair<std::string, std::string>> entries_;
};

bool is_shard_name(std::string_view name, std::string_view extension) {
  return name.ends_with(extension) && !name.starts_with('.') && name.size() <= 255 &&
         name.find_first_of("/\\") == std::string_view::npos &&
         std::ranges::none_of(name, [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

}  // namespace

ShardIndex parse_shard_index(std::string_view json,
                             std::string_view file_name,
                             std::string_view extension) {
  IndexReader reader(file_name);
  parse_json_object(json, reader);
  if (!reader.has_map()) {
    reader.fail("has no weight_map");
  }
  auto entries = reader.take_entries();
  if (entries.empty()) {
    reader.fail("has an empty weight_map");
  }

  ShardIndex index;
  for (const auto& [tensor, file] : entries) {
    if (!is_shard_name(file, extension)) {
      reader.fail(
          fmt::format("maps tensor {} to {}; expected the name of a {} file in the "
                      "same directory",
                      quote(tensor),
                      quote(file),
                      extension));
    }
    index.shards.push_back(file);
  }
  std::ranges::sort(index.shards);
  const auto repeated = std::ranges::unique(index.shards);
  index.shards.erase(repeated.begin(), repeated.end());
  if (index.shards.size() > kMaxShards) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("{}: the index names {} shards, expected at most {}",
                            file_name,
                            index.shards.size(),
                            kMaxShards),
                std::string(file_name));
  }
  for (auto& [tensor, file] : entries) {
    const auto shard = std::ranges::lower_bound(index.shards, file) - index.shards.begin();
    const auto [at, is_new] =
        index.shard_of.emplace(std::move(tensor), static_cast<std::uint32_t>(shard));
    if (!is_new) {
      reader.fail(fmt::format("names tensor {} twice", quote(at->first)));
    }
  }
  return index;
}

}  // namespace onnxferry
