#include <string>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/archive/sandbox.h"
#include "tests/unit/archive/tar_builder.h"

namespace onnxferry {
namespace {

using enum ErrorCode;

struct Hostile {
  const char* name;
  std::string archive;
  ErrorCode code;
  const char* message_part;
};

class RefusedArchive : public testing::TestWithParam<Hostile> {};

TEST_P(RefusedArchive, NamesWhatIsWrongAndNothingEscapes) {
  Sandbox sandbox;
  sandbox.expect_refused(GetParam().archive, GetParam().code, GetParam().message_part);
}

/// The same inside gzip: the rules do not depend on the layer.
TEST_P(RefusedArchive, IsRefusedInGzipToo) {
  Sandbox sandbox;
  EXPECT_EQ(sandbox.error_of(gzip(GetParam().archive)).code(), GetParam().code);
}

std::string case_name(const testing::TestParamInfo<Hostile>& row) {
  return row.param.name;
}

TarBuilder model() {
  return TarBuilder().file("config.json", "{}");
}

std::string with_file(std::string_view name) {
  return model().file(name, "x").end().bytes();
}

std::string with_link(std::string_view name, char type, std::string_view target) {
  return model().link(name, type, target).end().bytes();
}

std::string repeated(std::string_view text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) {
    result += text;
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(
    Names,
    RefusedArchive,
    testing::Values(
        Hostile{"Absolute",
                with_file("/outside/evil.json"),
                kCorruptArchive,
                "\"/outside/evil.json\" has an absolute path"},
        Hostile{"Parent",
                with_file("../evil.json"),
                kCorruptArchive,
                "\"../evil.json\" leaves the archive's directory"},
        Hostile{"ParentInside",
                with_file("a/../../evil.json"),
                kCorruptArchive,
                "leaves the archive's directory"},
        Hostile{"ParentThatStaysInside",
                with_file("a/../evil.json"),
                kCorruptArchive,
                "leaves the archive's directory"},
        Hostile{
            "ParentAtEnd", with_file("a/.."), kCorruptArchive, "leaves the archive's directory"},
        Hostile{"DirectoryParent",
                model().directory("../evil/").end().bytes(),
                kCorruptArchive,
                "leaves the archive's directory"},
        Hostile{"ParentInSkippedFile",
                with_file("__MACOSX/../../evil.json"),
                kCorruptArchive,
                "leaves the archive's directory"},
        Hostile{"PaxParent",
                model().pax("path", "../evil.json").file("innocent.json", "x").end().bytes(),
                kCorruptArchive,
                "\"../evil.json\" leaves"},
        Hostile{"PaxAbsolute",
                model().pax("path", "/outside/evil.json").file("innocent.json", "x").end().bytes(),
                kCorruptArchive,
                "absolute path"},
        Hostile{"GnuLongParent",
                model().gnu_long_name("../evil.json").file("innocent.json", "x").end().bytes(),
                kCorruptArchive,
                "leaves the archive's directory"},
        Hostile{"Newline",
                with_file("a\nb.json"),
                kCorruptArchive,
                R"("a\nb.json" has a control character)"},
        Hostile{"Escape", with_file("\x1B[31m.json"), kCorruptArchive, "has a control character"},
        Hostile{"Delete", with_file("a\x7F.json"), kCorruptArchive, "has a control character"},
        Hostile{
            "C1Control", with_file("a\xC2\x85.json"), kCorruptArchive, "has a control character"},
        Hostile{"Backslash", with_file("..\\evil.json"), kCorruptArchive, "has a backslash"},
        Hostile{"InvalidUtf8", with_file("a\xFF.json"), kCorruptArchive, "not valid UTF-8"},
        Hostile{"OverlongUtf8",
                with_file("a\xC0\xAE\xC0\xAE.json"),
                kCorruptArchive,
                "not valid UTF-8"},
        Hostile{"PaxInvalidUtf8",
                model().pax("path", "a\xFF.json").file("b.json", "x").end().bytes(),
                kCorruptArchive,
                "not valid UTF-8"},
        Hostile{"RootAsFile", with_file("."), kCorruptArchive, "archive's root"},
        Hostile{"TooDeep",
                model().gnu_long_name(repeated("d/", 16) + "f.json").file("x", "x").end().bytes(),
                kLimitExceeded,
                "is 17 levels deep, expected at most 16"},
        Hostile{"TooLong",
                model()
                    .gnu_long_name(repeated("abcdefg/", 128) + "f.json")
                    .file("x", "x")
                    .end()
                    .bytes(),
                kLimitExceeded,
                "has a name of 1030 bytes, expected at most 1024"},
        Hostile{"LongComponent",
                model().gnu_long_name(std::string(256, 'n')).file("x", "x").end().bytes(),
                kLimitExceeded,
                "path component of 256 bytes"}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Collisions,
    RefusedArchive,
    testing::Values(
        Hostile{"Duplicate",
                model().file("a.json", "1").file("a.json", "2").end().bytes(),
                kCorruptArchive,
                "\"a.json\" is there twice"},
        Hostile{"DuplicateByDot",
                model().file("a.json", "1").file("./a.json", "2").end().bytes(),
                kCorruptArchive,
                "\"a.json\" is there twice"},
        Hostile{"DuplicateBySlashes",
                model().file("a/b.json", "1").file("a//b.json", "2").end().bytes(),
                kCorruptArchive,
                "\"a/b.json\" is there twice"},
        Hostile{"DuplicateOfSkipped",
                model().file("a.bin", "1").file("a.bin", "2").end().bytes(),
                kCorruptArchive,
                "\"a.bin\" is there twice"},
        Hostile{"Case",
                model().file("a.json", "1").file("A.json", "2").end().bytes(),
                kCorruptArchive,
                "\"A.json\" differs from \"a.json\" only in letter case"},
        Hostile{"CaseOfDirectory",
                model().file("d/a.json", "1").file("D/b.json", "2").end().bytes(),
                kCorruptArchive,
                "\"D\" differs from \"d\" only"},
        Hostile{"CaseBeyondAscii",
                model().file("größe.json", "1").file("GRÖSSE.json", "2").end().bytes(),
                kCorruptArchive,
                "only in letter case or Unicode form"},
        // é as one code point, and as e with a combining accent.
        Hostile{"UnicodeForm",
                model().file("\xC3\xA9.json", "1").file("e\xCC\x81.json", "2").end().bytes(),
                kCorruptArchive,
                "only in letter case or Unicode form"},
        Hostile{"FileThenDirectory",
                model().file("d", "1").file("d/x.json", "2").end().bytes(),
                kCorruptArchive,
                "\"d\" is a file and a directory"},
        Hostile{"DirectoryThenFile",
                model().file("d/x.json", "1").file("d", "2").end().bytes(),
                kCorruptArchive,
                "\"d\" is a file and a directory"},
        Hostile{"DirectoryEntryThenFile",
                model().directory("d/").file("d", "2").end().bytes(),
                kCorruptArchive,
                "\"d\" is a file and a directory"},
        Hostile{"FileThenDirectoryEntry",
                model().file("d", "2").directory("d/").end().bytes(),
                kCorruptArchive,
                "\"d\" is a file and a directory"}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Types,
    RefusedArchive,
    testing::Values(
        Hostile{"Symlink",
                with_link("w.safetensors", '2', "/etc/passwd"),
                kCorruptArchive,
                "\"w.safetensors\" is a symbolic link, which is not unpacked; pack files instead "
                "of links (tar -h"},
        Hostile{"SymlinkInside",
                with_link("w.safetensors", '2', "config.json"),
                kCorruptArchive,
                "symbolic link"},
        Hostile{"SymlinkThenThrough",
                model().link("l", '2', "../outside").file("l/evil.json", "x").end().bytes(),
                kCorruptArchive,
                "\"l\" is a symbolic link"},
        Hostile{"HardlinkOut",
                with_link("w.safetensors", '1', "../canary"),
                kCorruptArchive,
                "\"w.safetensors\" is a hard link"},
        Hostile{"HardlinkInside",
                with_link("w.safetensors", '1', "config.json"),
                kCorruptArchive,
                "hard link"},
        Hostile{"HardlinkWithData",
                model().entry("b.json", '1', 4, "config.json").data("evil").end().bytes(),
                kCorruptArchive,
                "hard link"},
        Hostile{
            "PaxLinkPath",
            model().pax("linkpath", "/etc/passwd").link("w.safetensors", '2', "x").end().bytes(),
            kCorruptArchive,
            "symbolic link"},
        Hostile{"Fifo",
                with_link("f.json", '6', ""),
                kCorruptArchive,
                "\"f.json\" is a device, FIFO or socket"},
        Hostile{
            "CharDevice", with_link("f.json", '3', ""), kCorruptArchive, "device, FIFO or socket"},
        Hostile{"BlockDevice",
                with_link("f.json", '4', ""),
                kCorruptArchive,
                "device, FIFO or socket"}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Damage,
    RefusedArchive,
    testing::Values(
        Hostile{"NotTar",
                repeated("this is no archive at all. ", 100),
                kCorruptArchive,
                "is no tar archive; expected tar, tar.gz, tar.zst or zip"},
        Hostile{
            "HtmlErrorPage", "<html><body>403</body></html>", kCorruptArchive, "is no tar archive"},
        Hostile{"NoEndMarker",
                model().bytes(),
                kCorruptArchive,
                "ends without the end-of-archive marker after 1 entries"},
        Hostile{"CutInsideHeader",
                model().file("a.json", "x").end().bytes().substr(0, 1024 + 300),
                kCorruptArchive,
                "damaged or truncated near byte"},
        Hostile{"CutInsideData",
                model()
                    .file("a.json", std::string(5000, 'x'))
                    .end()
                    .bytes()
                    .substr(0, 1024 + 512 + 1000),
                kCorruptArchive,
                ""},
        Hostile{"CutInsideSkippedData",
                model()
                    .file("a.bin", std::string(5000, 'x'))
                    .end()
                    .bytes()
                    .substr(0, 1024 + 512 + 1000),
                kCorruptArchive,
                "damaged or truncated"},
        Hostile{"DataBehindTheEnd",
                model().end().file("hidden.json", "x").end().bytes(),
                kCorruptArchive,
                "data follows the end-of-archive marker"},
        Hostile{"GarbageBehindTheEnd",
                model().end().raw("x").bytes(),
                kCorruptArchive,
                "data follows the end-of-archive marker"},
        Hostile{"GarbageBetweenEntries",
                model().raw(repeated("garbage ", 64)).file("a.json", "x").end().bytes(),
                kCorruptArchive,
                "damaged or truncated"},
        Hostile{"SizePastTheArchive",
                model().entry("a.json", '0', 90 << 20).data("x").end().bytes(),
                kCorruptArchive,
                ""},
        Hostile{"Base256PastTheLimit",
                model().entry_base256("a.safetensors", 1ULL << 40).data("x").end().bytes(),
                kLimitExceeded,
                "has 1099511627776 bytes, expected at most 68719476736"},
        Hostile{"Base256Negative",
                model().entry_base256("a.safetensors", ~0ULL).data("x").end().bytes(),
                kCorruptArchive,
                ""},
        Hostile{"PaxSizeNegative",
                model().pax("size", "-5").file("a.json", "x").end().bytes(),
                kCorruptArchive,
                ""},
        Hostile{"MetadataTooBig",
                model().entry("vocab.json", '0', (100 << 20) + 1).data("x").end().bytes(),
                kLimitExceeded,
                "\"vocab.json\" has 104857601 bytes, expected at most 104857600"}),
    case_name);

TEST(RefusedArchives, AHugeClaimReservesNoMoreThanTheArchiveCanHold) {
  Sandbox sandbox;
  sandbox.expect_refused(
      model().entry_base256("a.safetensors", 60ULL << 30).data("x").end().bytes(),
      kCorruptArchive,
      "damaged or truncated");
  EXPECT_LT(std::filesystem::file_size(sandbox.job() / "a.safetensors"), 1U << 20);
}

TEST(RefusedArchives, ANulInAPaxPathCannotHideAnEscape) {
  Sandbox sandbox;
  const std::string archive =
      model().pax("path", std::string_view("a.json\0/../../evil", 18)).file("b", "x").end().bytes();
  try {
    // libarchive ends the name at the NUL; the name that is checked is the name that is used.
    EXPECT_THAT(sandbox.extract(archive).files, testing::ElementsAre("a.json", "config.json"));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kCorruptArchive) << error.message();
  }
}

TEST(RefusedArchives, EveryTruncationOfATarIsRefused) {
  const std::string whole =
      model().file("model.safetensors", noise(3000)).file("x.bin", "skipped").end().bytes();
  for (std::size_t bytes = 0; bytes + 512 < whole.size(); bytes += 64) {
    Sandbox sandbox;
    EXPECT_EQ(sandbox.error_of(std::string_view(whole).substr(0, bytes)).code(), kCorruptArchive)
        << bytes;
  }
}

TEST(RefusedArchives, EveryTruncationOfAGzipIsRefused) {
  const std::string whole = gzip(model().file("model.safetensors", noise(700)).end().bytes());
  // Every byte of header and trailer, every seventh between them.
  for (std::size_t bytes = 0; bytes < whole.size();
       bytes += bytes < 20 || bytes + 20 > whole.size() ? 1 : 7) {
    Sandbox sandbox;
    EXPECT_EQ(sandbox.error_of(std::string_view(whole).substr(0, bytes)).code(), kCorruptArchive)
        << bytes;
  }
}

TEST(RefusedArchives, AFlippedBitInGzipDataIsCaughtByTheChecksum) {
  const std::string tar = model().file("model.safetensors", noise(100'000)).end().bytes();
  const std::string whole = gzip(tar);
  // Noise is stored or coded literally, so most flips decode fine and only the CRC can tell.
  for (const std::size_t at : {whole.size() / 4, whole.size() / 2, whole.size() - 300}) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    Sandbox sandbox;
    sandbox.expect_refused(damaged, kCorruptArchive, "model.tar");
  }
}

TEST(RefusedArchives, GzipTrailerIsVerified) {
  const std::string whole = gzip(model().end().bytes());
  Sandbox sandbox;
  std::string bad_crc = whole;
  bad_crc[whole.size() - 8] = static_cast<char>(bad_crc[whole.size() - 8] ^ 1);
  sandbox.expect_refused(bad_crc, kCorruptArchive, "CRC32 or length differs");
  Sandbox second;
  std::string bad_length = whole;
  bad_length[whole.size() - 1] = static_cast<char>(bad_length[whole.size() - 1] ^ 1);
  second.expect_refused(bad_length, kCorruptArchive, "CRC32 or length differs");
}

TEST(RefusedArchives, GarbageBehindGzipIsRefused) {
  const std::string whole = gzip(model().end().bytes());
  for (const std::string_view garbage : {std::string_view("x"),
                                         std::string_view("\0", 1),
                                         std::string_view("some garbage of more bytes")}) {
    Sandbox sandbox;
    EXPECT_EQ(sandbox.error_of(whole + std::string(garbage)).code(), kCorruptArchive);
  }
}

TEST(RefusedArchives, ARatioBombIsStopped) {
  // 40 MiB of zeros gzip to 40 KiB.
  Sandbox sandbox;
  sandbox.expect_refused(
      gzip(model().file("model.safetensors", std::string(40U << 20, '\0')).end().bytes()),
      kLimitExceeded,
      "expands to more than 20 times its size");
}

TEST(RefusedArchives, ARatioBombOfSkippedFilesIsStopped) {
  Sandbox sandbox;
  sandbox.expect_refused(gzip(model().file("x.bin", std::string(40U << 20, '\0')).end().bytes()),
                         kLimitExceeded,
                         "expands to more than 20 times its size");
}

TEST(RefusedArchives, ARatioBombOfPaddingIsStopped) {
  Sandbox sandbox;
  sandbox.expect_refused(gzip(model().end().raw(std::string(40U << 20, '\0')).bytes()),
                         kLimitExceeded,
                         "expands to more than 20 times its size");
}

/// A tar with one sparse file, by libarchive's own writer: `data` bytes at the start, then a hole.
std::string sparse_tar(std::int64_t bytes, std::size_t data) {
  std::string out(1U << 20, '\0');
  std::size_t used = 0;
  archive* writer = archive_write_new();
  archive_write_set_format_pax(writer);
  archive_write_open_memory(writer, out.data(), out.size(), &used);
  archive_entry* entry = archive_entry_new();
  const auto begin = [&](const char* name, std::int64_t size) {
    archive_entry_clear(entry);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, size);
  };
  begin("config.json", 2);
  archive_write_header(writer, entry);
  archive_write_data(writer, "{}", 2);
  begin("model.safetensors", bytes);
  archive_entry_sparse_add_entry(entry, 0, static_cast<la_int64_t>(data));
  archive_write_header(writer, entry);
  const std::string text(data, 'd');
  archive_write_data(writer, text.data(), text.size());
  archive_write_finish_entry(writer);
  archive_entry_free(entry);
  archive_write_close(writer);
  archive_write_free(writer);
  out.resize(used);
  return out;
}

TEST(RefusedArchives, ASparseBombIsStopped) {
  Sandbox sandbox;
  const std::string archive = sparse_tar(9LL << 30, 512);
  EXPECT_LT(archive.size(), 64U << 10);
  sandbox.expect_refused(
      archive, kLimitExceeded, "sparse file with more than 1048576 bytes of holes");
}

TEST(RefusedArchives, ASmallHoleIsFilledWithZeros) {
  Sandbox sandbox;
  sandbox.extract(sparse_tar(300'000, 512));
  EXPECT_EQ(sandbox.read("model.safetensors"), std::string(512, 'd') + std::string(299'488, '\0'));
}

TEST(RefusedArchives, TooManyEntriesAreStopped) {
  Sandbox sandbox;
  sandbox.limits.max_entries = 3;
  TarBuilder tar = model();
  tar.directory("a/").file("b.bin", "skipped ones count too").file("c.json", "{}");
  sandbox.expect_refused(tar.end().bytes(), kLimitExceeded, "more than 3 entries");
}

TEST(RefusedArchives, TooManyBytesInOneFileOrAltogetherAreStopped) {
  const std::string archive =
      model().file("model.safetensors", noise(5000)).file("a.txt", noise(3000)).end().bytes();
  Sandbox one;
  one.limits.max_file_bytes = 4999;
  one.expect_refused(
      archive, kLimitExceeded, "\"model.safetensors\" has 5000 bytes, expected at most 4999");
  Sandbox total;
  total.limits.max_total_bytes = 8001;
  total.expect_refused(
      archive, kLimitExceeded, "\"a.txt\" takes the archive past 8001 unpacked bytes");
  Sandbox enough;
  enough.limits.max_file_bytes = 5000;
  enough.limits.max_total_bytes = 8002;
  EXPECT_EQ(enough.extract(archive).bytes, 8002U);
}

struct OtherFormat {
  const char* name;
  std::string_view start;
};

TEST(RefusedArchives, OtherFormatsAreNamed) {
  const std::vector<OtherFormat> formats = {{"xz", std::string_view("\xFD\x37zXZ\0", 6)},
                                            {"bzip2", "BZh9"},
                                            {"7z", "7z\xBC\xAF\x27\x1C"},
                                            {"rar", "Rar!"}};
  for (const OtherFormat& format : formats) {
    Sandbox sandbox;
    sandbox.expect_refused(
        std::string(format.start) + std::string(600, 'x'),
        kUnsupportedOption,
        fmt::format("is a {} archive, which is not read; use tar, tar.gz, tar.zst or zip",
                    format.name));
  }
}

TEST(RefusedArchives, AnEmptyFileAndAMissingOneAreNamed) {
  Sandbox sandbox;
  sandbox.expect_refused("", kCorruptArchive, "model.tar is empty");
  StageScope scope(Stage::kExtract, sandbox.observer());
  try {
    extract_archive(sandbox.top() / "absent.tar", sandbox.job(), sandbox.limits, scope);
    FAIL() << "no Error was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kSourceNotFound);
  }
}

}  // namespace
}  // namespace onnxferry
