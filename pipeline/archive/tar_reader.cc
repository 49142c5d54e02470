#include "pipeline/archive/tar_reader.h"

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <limits>
#include <string_view>

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

/// libarchive turns names into the charset of the thread's locale. Without this, a worker started
/// with LC_ALL=C would see other names than one started with UTF-8.
class Utf8Locale {
 public:
  Utf8Locale() : locale_(::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {
    if (locale_ != nullptr) {
      previous_ = ::uselocale(locale_);
    }
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;
  ~Utf8Locale() {
    if (locale_ != nullptr) {
      ::uselocale(previous_);
      ::freelocale(locale_);
    }
  }

 private:
  locale_t locale_;
  locale_t previous_ = nullptr;
};

constexpr std::uint64_t kTarBlockBytes = 512;

EntryType type_of(archive_entry* entry) {
  if (archive_entry_hardlink(entry) != nullptr) {
    return EntryType::kHardlink;
  }
  switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
      return EntryType::kFile;
    case AE_IFDIR:
      return EntryType::kDirectory;
    case AE_IFLNK:
      return EntryType::kSymlink;
    default:
      return EntryType::kOther;
  }
}

bool is_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte value) { return value == std::byte{0}; });
}

}  // namespace

/// C callbacks: they never throw, they stash what the source threw and stop libarchive.
struct TarReader::Callbacks {
  static la_ssize_t read(archive* handle, void* self, const void** buffer) noexcept {
    auto& reader = *static_cast<TarReader*>(self);
    try {
      reader.last_block_ = reader.source_.next();
    } catch (...) {
      return stash(handle, reader);
    }
    reader.delivered_ += reader.last_block_.size();
    *buffer = reader.last_block_.data();
    return static_cast<la_ssize_t>(reader.last_block_.size());
  }

  static la_int64_t skip(archive* handle, void* self, la_int64_t request) noexcept {
    auto& reader = *static_cast<TarReader*>(self);
    try {
      const std::uint64_t step = reader.source_.skip(static_cast<std::uint64_t>(request));
      reader.delivered_ += step;
      return static_cast<la_int64_t>(step);
    } catch (...) {
      return stash(handle, reader);
    }
  }

  static int stash(archive* handle, TarReader& reader) noexcept {
    reader.failure_ = std::current_exception();
    archive_set_error(handle, EIO, "the input failed");
    return ARCHIVE_FATAL;
  }
};

void TarReader::Free::operator()(archive* handle) const {
  archive_read_free(handle);
}

TarReader::TarReader(ByteSource& source, std::string name)
    : source_(source), name_(std::move(name)), handle_(archive_read_new()) {
  if (handle_ == nullptr) {
    throw std::bad_alloc();
  }
  archive_read_support_format_tar(handle_.get());
  archive_read_set_read_callback(handle_.get(), Callbacks::read);
  archive_read_set_skip_callback(handle_.get(), Callbacks::skip);
  archive_read_set_callback_data(handle_.get(), this);
  const Utf8Locale locale;
  if (archive_read_open1(handle_.get()) != ARCHIVE_OK) {
    fail();
  }
}

TarReader::~TarReader() = default;

void TarReader::fail() {
  if (failure_) {
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
  const char* text = archive_error_string(handle_.get());
  const std::string_view what = text == nullptr ? "unknown error" : text;
  if (what.starts_with("Unrecognized archive format")) {
    throw Error(ErrorCode::kCorruptArchive,
                fmt::format("{} is no tar archive; expected tar, tar.gz, tar.zst or zip", name_),
                name_);
  }
  throw Error(ErrorCode::kCorruptArchive,
              fmt::format("{}: the tar data is damaged or truncated near byte {}: {}",
                          name_,
                          archive_filter_bytes(handle_.get(), 0),
                          what),
              name_);
}

std::optional<ArchiveEntry> TarReader::next() {
  const Utf8Locale locale;
  // Step over the rest of the entry before by itself, so that what next_header then consumes is
  // the next header or the end marker.
  if (archive_file_count(handle_.get()) > 0 && archive_read_data_skip(handle_.get()) < ARCHIVE_OK) {
    fail();
  }
  const la_int64_t before = archive_filter_bytes(handle_.get(), 0);
  archive_entry* entry = nullptr;
  const int result = archive_read_next_header(handle_.get(), &entry);
  if (result == ARCHIVE_EOF) {
    // libarchive takes the end of the input for the end of the archive; a file that was cut
    // between two entries would pass.
    if (archive_filter_bytes(handle_.get(), 0) - before < static_cast<la_int64_t>(kTarBlockBytes)) {
      throw Error(ErrorCode::kCorruptArchive,
                  fmt::format("{} ends without the end-of-archive marker after {} entries; it is "
                              "truncated",
                              name_,
                              archive_file_count(handle_.get())),
                  name_);
    }
    finish();
    return std::nullopt;
  }
  // A warning is about a name or attribute that cannot be converted: names are checked by the
  // caller, attributes are not used.
  // One of a malformed pax header is more: libarchive drops the header, others may read it.
  const char* warning = result == ARCHIVE_WARN ? archive_error_string(handle_.get()) : nullptr;
  if ((result != ARCHIVE_OK && result != ARCHIVE_WARN) ||
      (warning != nullptr && std::string_view(warning).find("malformed") != std::string::npos)) {
    fail();
  }
  const char* name = archive_entry_pathname(entry);
  const la_int64_t bytes = archive_entry_size(entry);
  if (name == nullptr || bytes < 0) {
    throw Error(ErrorCode::kCorruptArchive,
                fmt::format("{}: entry {} has no readable name or a negative size",
                            name_,
                            archive_file_count(handle_.get())),
                name_);
  }
  return ArchiveEntry{.name = name,
                      .type = type_of(entry),
                      .bytes = static_cast<std::uint64_t>(bytes),
                      .is_sparse = archive_entry_sparse_count(entry) > 0};
}

std::optional<EntryBlock> TarReader::read_block() {
  const void* data = nullptr;
  std::size_t bytes = 0;
  la_int64_t offset = 0;
  const int result = archive_read_data_block(handle_.get(), &data, &bytes, &offset);
  if (result == ARCHIVE_EOF) {
    return std::nullopt;
  }
  if (result != ARCHIVE_OK || offset < 0) {
    fail();
  }
  return EntryBlock{.data = {static_cast<const std::byte*>(data), bytes},
                    .offset = static_cast<std::uint64_t>(offset)};
}

/// Behind the end marker only zeros may follow (writers pad to their record size). Reading to the
/// end also makes a gzip source verify its last checksum.
void TarReader::finish() {
  const std::uint64_t consumed = static_cast<std::uint64_t>(archive_filter_bytes(handle_.get(), 0));
  std::uint64_t position = consumed;
  std::span<const std::byte> block =
      last_block_.last(std::min<std::uint64_t>(last_block_.size(), delivered_ - consumed));
  while (true) {
    if (!is_zero(block)) {
      throw Error(ErrorCode::kCorruptArchive,
                  fmt::format("{}: data follows the end-of-archive marker at byte {}; expected "
                              "zeros up to the end",
                              name_,
                              position),
                  name_);
    }
    position += block.size();
    block = source_.next();
    if (block.empty()) {
      return;
    }
  }
}

}  // namespace onnxferry
