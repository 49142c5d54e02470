#include "pipeline/verify/weightless.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

// Tensors below this stay inline: constants that shape inference reads (shapes, axes, indices) are
// far smaller, and what stays costs little memory.
constexpr std::uint64_t kMinMovedBytes = 16384;
constexpr std::uint64_t kMaxProtoBytes = 0x7FFFFFFF;  // protobuf's own limit
constexpr int kMaxDepth = 64;  // graphs in attributes in graphs; real ones have 2 levels

// Field numbers of onnx.proto3.
constexpr std::uint32_t kModelGraph = 7;
constexpr std::uint32_t kGraphNode = 1;
constexpr std::uint32_t kGraphInitializer = 5;
constexpr std::uint32_t kNodeAttribute = 5;
constexpr std::uint32_t kAttributeGraph = 6;
constexpr std::uint32_t kAttributeGraphs = 11;
constexpr std::uint32_t kTensorRawData = 9;
constexpr std::uint32_t kTensorExternalData = 13;
constexpr std::uint32_t kTensorDataLocation = 14;
constexpr std::uint64_t kExternal = 1;

constexpr std::uint32_t kVarint = 0;
constexpr std::uint32_t kFixed64 = 1;
constexpr std::uint32_t kBytes = 2;
constexpr std::uint32_t kFixed32 = 5;

enum class Message : std::uint8_t { kModel, kGraph, kNode, kAttribute, kTensor, kOther };

// What a length-delimited field of a message holds, as far as weights can be below it.
Message child_message(Message parent, std::uint32_t field) {
  switch (parent) {
    case Message::kModel:
      return field == kModelGraph ? Message::kGraph : Message::kOther;
    case Message::kGraph:
      return field == kGraphNode          ? Message::kNode
             : field == kGraphInitializer ? Message::kTensor
                                          : Message::kOther;
    case Message::kNode:
      return field == kNodeAttribute ? Message::kAttribute : Message::kOther;
    case Message::kAttribute:
      return field == kAttributeGraph || field == kAttributeGraphs ? Message::kGraph
                                                                   : Message::kOther;
    default:
      return Message::kOther;
  }
}

// A file read through one window with pread: mapping it would turn a truncation by someone else
// into SIGBUS.
class FileWindow {
 public:
  explicit FileWindow(const std::filesystem::path& path)
      : name_(path.filename().string()), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    struct stat status{};
    if (fd_ < 0 || ::fstat(fd_, &status) != 0) {
      const std::error_code code(errno, std::generic_category());
      close();
      throw Error(ErrorCode::kVerificationFailed,
                  fmt::format("{}: cannot be opened: {}", name_, code.message()),
                  name_);
    }
    if (!S_ISREG(status.st_mode)) {
      close();
      throw Error(
          ErrorCode::kVerificationFailed, fmt::format("{}: not a regular file", name_), name_);
    }
    size_ = static_cast<std::uint64_t>(status.st_size);
  }
  ~FileWindow() { close(); }
  FileWindow(const FileWindow&) = delete;
  FileWindow& operator=(const FileWindow&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }

  unsigned char byte(std::uint64_t at) {
    if (at < begin_ || at >= begin_ + filled_) {
      begin_ = at;
      filled_ = read(at, window_.data(), std::min<std::uint64_t>(window_.size(), size_ - at));
    }
    return static_cast<unsigned char>(window_[at - begin_]);
  }

  void append(std::uint64_t begin, std::uint64_t end, std::string& out) {
    if (begin >= begin_ && end <= begin_ + filled_) {
      out.append(window_.data() + (begin - begin_), end - begin);
      return;
    }
    const std::size_t old = out.size();
    out.resize(old + (end - begin));
    read(begin, out.data() + old, end - begin);
  }

  [[noreturn]] void malformed(std::uint64_t at, std::string_view what) const {
    throw Error(
        ErrorCode::kVerificationFailed,
        fmt::format(
            "{}: not a well-formed ONNX model: {} at byte {} of {}", name_, what, at, size_),
        name_);
  }

 private:
  void close() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
    fd_ = -1;
  }

  std::uint64_t read(std::uint64_t at, char* out, std::uint64_t count) {
    std::uint64_t done = 0;
    while (done < count) {
      const ssize_t got = ::pread(fd_, out + done, count - done, static_cast<off_t>(at + done));
      if (got < 0 && errno == EINTR) {
        continue;
      }
      if (got <= 0) {
        malformed(at + done, got == 0 ? "the file ends early" : "a read fails");
      }
      done += static_cast<std::uint64_t>(got);
    }
    return count;
  }

  std::string name_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
  std::array<char, 65536> window_{};
  std::uint64_t begin_ = 0;
  std::uint64_t filled_ = 0;
};

struct Field {
  std::uint32_t number = 0;
  std::uint32_t wire_type = 0;
  std::uint64_t value = 0;    ///< of a varint
  std::uint64_t begin = 0;    ///< of the tag
  std::uint64_t payload = 0;  ///< of the content
  std::uint64_t end = 0;
};

void append_varint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>((value & 0x7FU) | 0x80U));
    value >>= 7U;
  }
  out.push_back(static_cast<char>(value));
}

void append_field(std::string& out, std::uint32_t number, std::string_view content) {
  append_varint(out, (static_cast<std::uint64_t>(number) << 3U) | kBytes);
  append_varint(out, content.size());
  out.append(content);
}

void append_external_entry(std::string& out, std::string_view key, std::string_view value) {
  std::string entry;
  append_field(entry, 1, key);
  append_field(entry, 2, value);
  append_field(out, kTensorExternalData, entry);
}

class Rewriter {
 public:
  explicit Rewriter(FileWindow& file) : file_(file) {}

  [[nodiscard]] std::uint64_t moved_bytes() const { return moved_bytes_; }

  // The message in [begin, end) with its weights replaced by references.
  std::string message(Message kind, std::uint64_t begin, std::uint64_t end, int depth) {
    if (depth > kMaxDepth) {
      file_.malformed(begin, "graphs are nested too deeply");
    }
    std::string out;
    for (std::uint64_t at = begin; at < end;) {
      const Field field = next_field(at, end);
      at = field.end;
      const Message child =
          field.wire_type == kBytes ? child_message(kind, field.number) : Message::kOther;
      if (child == Message::kOther) {
        file_.append(field.begin, field.end, out);
      } else if (child == Message::kTensor) {
        append_field(out, field.number, tensor(field.payload, field.end));
      } else {
        append_field(out, field.number, message(child, field.payload, field.end, depth + 1));
      }
    }
    return out;
  }

 private:
  std::string tensor(std::uint64_t begin, std::uint64_t end) {
    std::vector<Field> fields;
    for (std::uint64_t at = begin; at < end; at = fields.back().end) {
      fields.push_back(next_field(at, end));
    }
    const auto is_raw = [](const Field& field) { return field.number == kTensorRawData; };
    const auto is_external = [](const Field& field) {
      return field.number == kTensorDataLocation && field.value == kExternal;
    };
    const auto raw = std::ranges::find_if(fields, is_raw);
    std::string out;
    if (raw == fields.end() || raw->end - raw->payload < kMinMovedBytes ||
        std::ranges::count_if(fields, is_raw) != 1 || std::ranges::any_of(fields, is_external)) {
      file_.append(begin, end, out);
      return out;
    }
    for (const Field& field : fields) {
      if (!is_raw(field) && field.number != kTensorDataLocation) {
        file_.append(field.begin, field.end, out);
      }
    }
    append_external_entry(out, "location", file_.name());
    append_external_entry(out, "offset", std::to_string(raw->payload));
    append_external_entry(out, "length", std::to_string(raw->end - raw->payload));
    append_varint(out, (static_cast<std::uint64_t>(kTensorDataLocation) << 3U) | kVarint);
    append_varint(out, kExternal);
    moved_bytes_ += raw->end - raw->payload;
    return out;
  }

  std::uint64_t varint(std::uint64_t& at, std::uint64_t end) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at >= end) {
        file_.malformed(at, "a field runs past the end of its message");
      }
      const unsigned char byte = file_.byte(at++);
      value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
      if ((byte & 0x80U) == 0) {
        return value;
      }
    }
    file_.malformed(at, "a varint is too long");
  }

  Field next_field(std::uint64_t at, std::uint64_t end) {
    Field field;
    field.begin = at;
    const std::uint64_t tag = varint(at, end);
    field.number = static_cast<std::uint32_t>(tag >> 3U);
    field.wire_type = static_cast<std::uint32_t>(tag & 7U);
    if (field.number == 0 || tag > 0xFFFFFFFFU) {
      file_.malformed(field.begin, "a field has no valid number");
    }
    std::uint64_t length = 0;
    switch (field.wire_type) {
      case kVarint:
        field.value = varint(at, end);
        break;
      case kFixed64:
        length = 8;
        break;
      case kFixed32:
        length = 4;
        break;
      case kBytes:
        length = varint(at, end);
        break;
      default:
        file_.malformed(field.begin, "a field has an unknown wire type");
    }
    if (length > end - at) {
      file_.malformed(field.begin, "a field runs past the end of its message");
    }
    field.payload = at;
    field.end = at + length;
    return field;
  }

  FileWindow& file_;
  std::uint64_t moved_bytes_ = 0;
};

}  // namespace

WeightlessModel read_weightless(const std::filesystem::path& onnx_file) {
  FileWindow file(onnx_file);
  if (file.size() > kMaxProtoBytes) {
    throw Error(ErrorCode::kVerificationFailed,
                fmt::format("{}: {} bytes, a protobuf file ends at {}; its weights must be "
                            "external data",
                            file.name(),
                            file.size(),
                            kMaxProtoBytes),
                file.name());
  }
  if (file.size() == 0) {
    file.malformed(0, "the file is empty");
  }
  Rewriter rewriter(file);
  WeightlessModel model;
  model.file_bytes = file.size();
  model.bytes = rewriter.message(Message::kModel, 0, file.size(), 0);
  model.moved_bytes = rewriter.moved_bytes();
  return model;
}

}  // namespace onnxferry
