// bench_export: `onnxferry export` of a model-shaped checkpoint beside a plain program that reads
// the same bytes, writes as many and hashes them. See README.md.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "bench/export/baseline.h"
#include "bench/export/child.h"
#include "bench/export/model_shapes.h"
#include "bench/export/synthetic_checkpoint.h"

namespace onnxferry::bench {
namespace {

namespace fs = std::filesystem;

struct Flags {
  fs::path binary;
  fs::path work;
  std::string shape = "qwen2.5-0.5b";
  std::string dtype = "fp32";
  int rounds = 3;
  bool keep = false;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 != 0 ? values.at(middle)
                                : (values.at(middle - 1) + values.at(middle)) / 2;
}

std::uint64_t bytes_below(const fs::path& directory) {
  std::uint64_t total = 0;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    total += entry.is_regular_file() ? entry.file_size() : 0;
  }
  return total;
}

/// The export's files first appear in its scratch directory beside the output.
bool has_scratch_output(const fs::path& parent) {
  std::error_code gone;  // directories come and go while we look
  for (const auto& entry : fs::directory_iterator(parent, gone)) {
    if (entry.path().filename().string().starts_with(".onnxferry-") &&
        !fs::is_empty(entry.path() / "output", gone) && !gone) {
      return true;
    }
  }
  return false;
}

class Bench {
 public:
  explicit Bench(Flags flags) : flags_(std::move(flags)) {}

  /// \return whether it could run
  bool run() {
    const auto model = find_model_shape(flags_.shape);
    if (!model) {
      throw std::runtime_error("no shape " + flags_.shape);
    }
    fs::create_directories(flags_.work);
    const std::uint64_t in_bytes = write_checkpoint(*model, in());
    const std::uint64_t item = flags_.dtype == "fp16" ? 2 : 4;
    const std::uint64_t needed = in_bytes / model->item_bytes * item;
    const std::uint64_t free = fs::space(flags_.work).available;
    if (free < needed + needed / 5) {
      fmt::print("skipped: {} in {} needs {} MB, {} MB are free\n",
                 flags_.shape,
                 flags_.dtype,
                 needed / 1'000'000,
                 free / 1'000'000);
      return false;
    }
    fmt::print("{} {}: {} MB in, {} rounds\n",
               flags_.shape,
               flags_.dtype,
               in_bytes / 1'000'000,
               flags_.rounds);
    for (int round = 0; round < flags_.rounds; ++round) {
      // The first export also tells how much the baseline has to write.
      if (round % 2 == 0) {
        run_export();
        run_plain();
      } else {
        run_plain();
        run_export();
      }
    }
    print_result();
    return true;
  }

  ~Bench() {
    if (!flags_.keep) {
      std::error_code ignored;
      fs::remove_all(in(), ignored);
      fs::remove_all(out(), ignored);
      fs::remove(plain_out(), ignored);
    }
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

 private:
  [[nodiscard]] fs::path in() const { return flags_.work / "checkpoint"; }
  [[nodiscard]] fs::path out() const { return flags_.work / "export"; }
  [[nodiscard]] fs::path plain_out() const { return flags_.work / "plain.bin"; }

  /// Both programs start with the same page cache and no writes of the other under way.
  void settle() const {
    fs::remove_all(out());
    fs::remove(plain_out());
    ::sync();
  }

  void run_export() {
    settle();
    const ChildResult result = run_child({flags_.binary.string(),
                                          "export",
                                          in().string(),
                                          out().string(),
                                          "--dtype",
                                          flags_.dtype,
                                          "--verify",
                                          "none"},
                                         [this] { return has_scratch_output(flags_.work); });
    out_bytes_ = bytes_below(out());
    ours_.push_back(result);
    fmt::print(
        "  onnxferry {:7.2f} s, cpu {:.2f} s, first output after {:.3f} s, peak anonymous {} MiB\n",
        result.seconds,
        result.cpu_seconds,
        result.first_output_seconds,
        result.peak_anonymous_bytes >> 20);
    std::fflush(stdout);
  }

  void run_plain() {
    settle();
    const ChildResult result = run_child({"/proc/self/exe",
                                          "--baseline-in",
                                          (in() / "model.safetensors").string(),
                                          "--baseline-out",
                                          plain_out().string(),
                                          "--baseline-bytes",
                                          std::to_string(out_bytes_)},
                                         [] { return false; });
    plain_.push_back(result);
    fmt::print("  plain     {:7.2f} s, cpu {:.2f} s\n", result.seconds, result.cpu_seconds);
    std::fflush(stdout);
  }

  void print_result() const {
    std::vector<double> ours;
    std::vector<double> plain;
    std::vector<double> ratios;
    std::vector<double> plans;
    std::uint64_t peak = 0;
    for (std::size_t i = 0; i < ours_.size(); ++i) {
      ours.push_back(ours_[i].seconds);
      plain.push_back(plain_[i].seconds);
      ratios.push_back(ours_[i].seconds / plain_[i].seconds);
      plans.push_back(ours_[i].first_output_seconds);
      peak = std::max(peak, ours_[i].peak_anonymous_bytes);
    }
    fmt::print(
        "median: onnxferry {:.2f} s, plain {:.2f} s, ratio {:.2f} (below 1: onnxferry is faster); "
        "{} MB out, {:.2f} GB/s; first output after {:.3f} s; peak anonymous {} MiB\n",
        median(ours),
        median(plain),
        median(ratios),
        out_bytes_ / 1'000'000,
        static_cast<double>(out_bytes_) / median(ours) / 1e9,
        median(plans),
        peak >> 20);
  }

  Flags flags_;
  std::uint64_t out_bytes_ = 0;
  std::vector<ChildResult> ours_;
  std::vector<ChildResult> plain_;
};

int run(int argc, char** argv) {
  CLI::App app("Time onnxferry export beside a plain read, write and sha256 of as many bytes");
  Flags flags;
  fs::path baseline_in;
  fs::path baseline_out;
  std::uint64_t baseline_bytes = 0;
  app.add_option("--binary", flags.binary, "The onnxferry program");
  app.add_option("--work", flags.work, "Directory for inputs and outputs; made if missing");
  app.add_option("--shape", flags.shape, "qwen2.5-0.5b, bert-base or 7b-sparse")
      ->capture_default_str();
  app.add_option("--dtype", flags.dtype, "fp32 or fp16")
      ->check(CLI::IsMember({"fp32", "fp16"}))
      ->capture_default_str();
  app.add_option("--rounds", flags.rounds, "Runs of each program")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--keep", flags.keep, "Leave the checkpoint and the last output behind");
  app.add_option("--baseline-in", baseline_in)->group("");  // how it runs itself as the baseline
  app.add_option("--baseline-out", baseline_out)->group("");
  app.add_option("--baseline-bytes", baseline_bytes)->group("");
  CLI11_PARSE(app, argc, argv);
  if (!baseline_in.empty()) {
    run_baseline(baseline_in, baseline_out, baseline_bytes);
    return 0;
  }
  if (flags.binary.empty() || flags.work.empty()) {
    fmt::print(stderr, "--binary and --work are required\n");
    return 2;
  }
  Bench(std::move(flags)).run();
  return 0;
}

}  // namespace
}  // namespace onnxferry::bench

int main(int argc, char** argv) {
  try {
    return onnxferry::bench::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
