#include "pipeline/archive/entry_name.h"

#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include <fmt/format.h>
#include <utf8proc.h>

#include "pipeline/error.h"
#include "pipeline/quote.h"

namespace onnxferry {
namespace {

constexpr std::size_t kMaxComponentBytes = 255;  // NAME_MAX of every Linux file system

[[noreturn]] void fail(std::string_view name, std::string_view what) {
  throw Error(ErrorCode::kCorruptArchive,
              fmt::format("the entry {} {}", quote_entry(name), what),
              std::string(name.substr(0, kMaxComponentBytes)));
}

void check_characters(std::string_view name) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(name.data());
  auto left = static_cast<utf8proc_ssize_t>(name.size());
  while (left > 0) {
    utf8proc_int32_t code_point = 0;
    const utf8proc_ssize_t length = utf8proc_iterate(bytes, left, &code_point);
    if (length <= 0) {
      fail(name, "has a name that is not valid UTF-8");
    }
    if (utf8proc_category(code_point) == UTF8PROC_CATEGORY_CC) {
      fail(name, "has a control character in its name");
    }
    if (code_point == '\\') {
      fail(name, "has a backslash in its name; pack with / between directories");
    }
    bytes += length;
    left -= length;
  }
}

/// NFC and case folded. `text` is valid UTF-8.
std::string collision_key(std::string_view text) {
  // The library's options are flags of an enum that has no enumerator for their union.
  // NOLINTBEGIN(clang-analyzer-optin.core.EnumCastOutOfRange)
  constexpr auto kOptions =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD);
  // NOLINTEND(clang-analyzer-optin.core.EnumCastOutOfRange)
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()),
                   &mapped,
                   kOptions);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (length < 0) {
    throw std::bad_alloc();  // the only failure left for valid UTF-8
  }
  return {reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(length)};
}

}  // namespace

std::string quote_entry(std::string_view name) {
  return quote(name, 160);
}

std::vector<std::string> split_entry_name(std::string_view name, const ArchiveLimits& limits) {
  if (name.size() > limits.max_path_bytes) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("the entry {} has a name of {} bytes, expected at most {}",
                            quote_entry(name),
                            name.size(),
                            limits.max_path_bytes));
  }
  if (name.empty()) {
    fail(name, "has no name");
  }
  check_characters(name);
  if (name.front() == '/') {
    fail(name, "has an absolute path; pack relative paths (tar -C DIR .)");
  }
  std::vector<std::string> components;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view component = name.substr(begin, end - begin);
    begin = end + 1;
    if (component.empty() || component == ".") {
      continue;
    }
    if (component == "..") {
      fail(name, "leaves the archive's directory by \"..\"");
    }
    if (component.size() > kMaxComponentBytes) {
      throw Error(ErrorCode::kLimitExceeded,
                  fmt::format("the entry {} has a path component of {} bytes, expected at most {}",
                              quote_entry(name),
                              component.size(),
                              kMaxComponentBytes));
    }
    components.emplace_back(component);
  }
  if (components.size() > limits.max_path_depth) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("the entry {} is {} levels deep, expected at most {}",
                            quote_entry(name),
                            components.size(),
                            limits.max_path_depth));
  }
  return components;
}

std::string join_components(const std::vector<std::string>& components, std::size_t count) {
  std::string path;
  for (std::size_t i = 0; i < count; ++i) {
    path += (i == 0 ? "" : "/") + components[i];
  }
  return path;
}

const NameTable::Known* NameTable::find_or_add(const std::string& path, bool is_directory) {
  const auto [at, is_new] = known_.try_emplace(collision_key(path), Known{path, is_directory});
  if (is_new) {
    return nullptr;
  }
  if (at->second.path != path) {
    fail(path,
         fmt::format("differs from {} only in letter case or Unicode form",
                     quote_entry(at->second.path)));
  }
  return &at->second;
}

void NameTable::add_parents(const std::vector<std::string>& components, std::size_t count) {
  for (std::size_t i = 1; i <= count; ++i) {
    const Known* known = find_or_add(join_components(components, i), true);
    if (known != nullptr && !known->is_directory) {
      fail(known->path, "is a file and a directory at the same time");
    }
  }
}

void NameTable::add_file(const std::vector<std::string>& components) {
  add_parents(components, components.size() - 1);
  const Known* known = find_or_add(join_components(components, components.size()), false);
  if (known != nullptr) {
    fail(known->path,
         known->is_directory ? "is a file and a directory at the same time" : "is there twice");
  }
}

void NameTable::add_directory(const std::vector<std::string>& components) {
  add_parents(components, components.size());
}

}  // namespace onnxferry
