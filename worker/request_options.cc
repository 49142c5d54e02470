#include "worker/request_options.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "messages/text.h"
#include "messages/timestamps.h"
#include "pipeline/error.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/object_store.h"
#include "pipeline/tasks.h"
#include "worker/problems.h"

namespace onnxferry {
namespace {

using messages::did_you_mean;
using messages::quote;

using Names = std::span<const std::string_view>;

// The whole vocabulary of the contract, whether this build offers a word or not: a later word is
// UNSUPPORTED_OPTION, any other INVALID_REQUEST.
constexpr std::array<std::string_view, 2> kDevices = {"cpu", "cuda"};
constexpr std::array<std::string_view, 3> kDtypes = {"fp32", "fp16", "bf16"};
constexpr std::array<std::string_view, 2> kLayouts = {"optimum", "transformers_js"};
constexpr std::array<std::string_view, 7> kVariants = {
    "fp16", "q8", "int8", "uint8", "q4", "q4f16", "bnb4"};
constexpr std::array<std::string_view, 2> kFloatIo = {"fp32", "model"};
constexpr std::array<std::string_view, 6> kPresets = {
    "arm64", "avx2", "avx512", "avx512_vnni", "ppc64le", "tensorrt"};
constexpr std::array<std::string_view, 3> kCalibrations = {"minmax", "entropy", "percentile"};
constexpr std::array<std::string_view, 5> kOptimizations = {"none", "O1", "O2", "O3", "O4"};
constexpr std::array<std::string_view, 1> kStrategies = {"htp"};
constexpr std::array<std::string_view, 5> kVerifyLevels = {
    "none", "structure", "load", "run", "full"};
constexpr std::array<std::string_view, 3> kLaterArchives = {".zip", ".zst", ".tzst"};

constexpr std::size_t kMaxLabelBytes = 256;

class RequestChecker {
 public:
  std::vector<FieldProblem> invalid;
  std::vector<FieldProblem> unsupported;

  void add(std::string field, std::string_view text) {
    invalid.push_back({std::move(field), mask_secrets(text)});
  }

  /// A capability of the contract that this build does not offer yet.
  void not_yet(std::string field, std::string_view value) {
    unsupported.push_back({std::move(field), fmt::format("{} is not built in yet", value)});
  }

  /// A word of a vocabulary; `absent` stands for "".
  std::string word(const std::string& field,
                   const std::string& value,
                   Names known,
                   std::string_view absent) {
    if (value.empty()) {
      return std::string(absent);
    }
    if (std::ranges::find(known, value) == known.end()) {
      add(field,
          fmt::format("{} is unknown; expected {}{}",
                      quote(value),
                      fmt::join(known, ", "),
                      did_you_mean(value, known)));
    }
    return value;
  }

  /// The only word of a vocabulary that this build offers, or a problem of one kind or the other.
  void only(const std::string& field,
            const std::string& value,
            Names known,
            std::string_view offered) {
    const std::size_t before = invalid.size();
    const std::string found = word(field, value, known, offered);
    if (invalid.size() == before && found != offered) {
      not_yet(field, quote(found));
    }
  }

  std::optional<ObjectUri> uri(const std::string& field, const std::string& value) {
    if (value.find("://") == std::string::npos) {
      add(field,
          fmt::format("{} has no scheme; expected s3://bucket/key or file:///path", quote(value)));
      return std::nullopt;
    }
    try {
      return ObjectUri::parse(value);
    } catch (const Error& error) {
      add(field, error.message());
      return std::nullopt;
    }
  }
};

bool is_web(std::string_view uri) {
  const std::string scheme = to_lower(uri.substr(0, uri.find("://")));
  return scheme == "https" || scheme == "http";
}

std::string check_source(const v1::ExportRequest& request, RequestChecker& checker) {
  const std::string& main = request.minio_tar_uri();
  const std::string& other = request.source_uri();
  if (!main.empty() && !other.empty() && main != other) {
    checker.add("source_uri", "contradicts minio_tar_uri; they name the same thing, give one");
  }
  const std::string field = main.empty() && !other.empty() ? "source_uri" : "minio_tar_uri";
  const std::string& value = main.empty() ? other : main;
  if (value.empty()) {
    checker.add(field, "missing; expected the model archive, as in s3://bucket/path/model.tar");
    return {};
  }
  const std::optional<ObjectUri> uri = checker.uri(field, value);
  if (!uri) {
    return {};
  }
  if (uri->path().empty() || uri->path().ends_with('/')) {
    checker.add(
        field,
        fmt::format("{} names no object; expected a tar, tar.gz, tar.zst or zip archive, as in "
                    "s3://bucket/path/model.tar",
                    quote(value)));
  }
  const std::string key = to_lower(uri->path());
  for (const std::string_view suffix : kLaterArchives) {
    if (key.ends_with(suffix)) {
      checker.not_yet(field, fmt::format("a {} archive", suffix));
    }
  }
  return value;
}

/// Destinations are immutable prefixes, so their names must mean the same to every tool: no empty
/// or dot segments, never a whole bucket or file system.
std::string check_output(const v1::ExportRequest& request, RequestChecker& checker) {
  const std::string field = "output_dir";
  std::string value = request.output_dir();
  if (value.empty()) {
    checker.add(field, "missing; expected a destination, as in s3://bucket/exports/my-model/");
    return {};
  }
  if (is_web(value)) {
    checker.add(field, "a destination is s3://bucket/prefix/ or file:///directory/, not https://");
    return {};
  }
  if (!value.ends_with('/')) {
    value += '/';
  }
  const std::optional<ObjectUri> uri = checker.uri(field, value);
  if (!uri) {
    return {};
  }
  std::string_view path = uri->key;
  path.remove_prefix(path.starts_with('/') && uri->scheme == ObjectUri::Scheme::kFile ? 1 : 0);
  if (path.empty()) {
    checker.add(field, fmt::format("{} has no prefix; expected s3://bucket/prefix/", quote(value)));
  }
  while (!path.empty()) {
    const std::string_view segment = path.substr(0, path.find('/'));
    if (segment.empty() || segment == "." || segment == "..") {
      checker.add(field,
                  fmt::format("{} has the path segment {}; empty, \".\" and \"..\" are not allowed",
                              quote(value),
                              quote(segment)));
      break;
    }
    path.remove_prefix(std::min(path.size(), segment.size() + 1));
  }
  return value;
}

std::string check_task(const v1::ExportRequest& request, RequestChecker& checker) {
  if (request.task().empty() || request.task() == "auto") {
    return "auto";
  }
  if (auto task = canonical_task(request.task())) {
    return *task;
  }
  const std::string nearest = nearest_name(request.task(), task_names());
  checker.add(
      "task",
      nearest.empty()
          ? fmt::format("{} is unknown; expected auto, {}",
                        quote(request.task()),
                        fmt::join(task_names(), ", "))
          : fmt::format("{} is unknown; did you mean \"{}\"?", quote(request.task()), nearest));
  return "auto";
}

bool check_keep_weights(const v1::ExportRequest& request, RequestChecker& checker) {
  const bool has_keep = request.has_keep_weights();
  const bool has_cleanup = request.has_cleanup_weights_after_export();
  if (has_keep && has_cleanup && request.keep_weights() == request.cleanup_weights_after_export()) {
    checker.add(
        "cleanup_weights_after_export",
        fmt::format("{0} contradicts keep_weights {0}; give one of them", request.keep_weights()));
  }
  return has_keep ? request.keep_weights() : !request.cleanup_weights_after_export();
}

std::optional<double> check_tolerance(const std::string& field,
                                      std::optional<double> value,
                                      RequestChecker& checker) {
  if (value && (!std::isfinite(*value) || *value < 0)) {
    checker.add(field, fmt::format("{} is not a tolerance; expected a number from 0 on", *value));
  }
  return value;
}

void check_verify(const v1::Verify& verify, RequestChecker& checker, ExportOptions& options) {
  const std::string level = checker.word("verify.level", verify.level(), kVerifyLevels, "load");
  options.verify = find_verify_level(level).value_or(VerifyLevel::kLoad);
  options.verify_atol = check_tolerance(
      "verify.atol", verify.has_atol() ? std::optional(verify.atol()) : std::nullopt, checker);
  options.verify_rtol = check_tolerance(
      "verify.rtol", verify.has_rtol() ? std::optional(verify.rtol()) : std::nullopt, checker);
  if (verify.sample_texts_size() > 0) {
    checker.not_yet("verify.sample_texts", "verification with texts");
  }
  if (!verify.samples_uri().empty()) {
    checker.uri("verify.samples_uri", verify.samples_uri());
    checker.not_yet("verify.samples_uri", "verification with texts");
  }
}

void check_quantize(const v1::Quantize& quantize, RequestChecker& checker) {
  checker.word("quantize.preset", quantize.preset(), kPresets, "");
  if (quantize.has_static_()) {
    const v1::StaticQuantize& calibration = quantize.static_();
    checker.word("quantize.static.method", calibration.method(), kCalibrations, "");
    if (!calibration.dataset_uri().empty()) {
      checker.uri("quantize.static.dataset_uri", calibration.dataset_uri());
    }
    if (calibration.has_num_samples() && calibration.num_samples() < 1) {
      checker.add("quantize.static.num_samples",
                  fmt::format("{}; expected at least 1", calibration.num_samples()));
    }
  }
  checker.not_yet("quantize", "quantization");
}

void check_split(const v1::Split& split, RequestChecker& checker) {
  if (split.blocks() < 0) {
    checker.add("split.blocks", fmt::format("{}; expected at least 1", split.blocks()));
  }
  for (int i = 0; i < split.seq_len_size(); ++i) {
    if (split.seq_len(i) < 1) {
      checker.add(fmt::format("split.seq_len[{}]", i),
                  fmt::format("{}; expected at least 1", split.seq_len(i)));
    }
  }
  checker.not_yet("split", "a split export");
}

/// What the contract promises and this build does not do yet: valid, named, never silently ignored.
void check_later_capabilities(const v1::ExportRequest& request, RequestChecker& checker) {
  checker.only("layout", request.layout(), kLayouts, "optimum");
  checker.only("float_io", request.float_io(), kFloatIo, "fp32");
  checker.only("optimize", request.optimize(), kOptimizations, "none");
  for (int i = 0; i < request.variants_size(); ++i) {
    const std::string field = fmt::format("variants[{}]", i);
    if (request.variants(i).empty()) {
      checker.add(field, fmt::format("empty; expected {}", fmt::join(kVariants, ", ")));
    } else {
      checker.only(field, request.variants(i), kVariants, "");
    }
  }
  if (request.use_onnxslim()) {
    checker.not_yet("use_onnxslim", "slimming");
  }
  if (request.has_quantize()) {
    check_quantize(request.quantize(), checker);
  }
  if (request.has_hierarchy()) {
    checker.word("hierarchy.strategy", request.hierarchy().strategy(), kStrategies, "htp");
    checker.not_yet("hierarchy", "hierarchy tagging");
  }
  if (request.has_split()) {
    check_split(request.split(), checker);
  }
  if (request.genai()) {
    checker.not_yet("genai", "the GenAI form");
  }
  if (request.has_model_card() &&
      (!request.model_card().has_enabled() || request.model_card().enabled())) {
    checker.not_yet("model_card", "a model card");
  }
}

std::string check_model_id(const v1::ExportRequest& request, RequestChecker& checker) {
  const std::string& id = request.model_id();
  if (id == "-") {
    return {};
  }
  if (id.size() > kMaxLabelBytes || has_control_characters(id)) {
    checker.add("model_id",
                fmt::format("{} is not a label; expected at most {} bytes without control "
                            "characters",
                            quote(id),
                            kMaxLabelBytes));
  }
  return id;
}

void check_expiry(const v1::ExportRequest& request, const RequestContext& context) {
  const auto expiry = find_expiry(request);
  if (context.now && expiry && *expiry <= *context.now) {
    throw Error(ErrorCode::kDeadlineExceeded,
                fmt::format("the request expired at {}, before it was started at {}; send it again "
                            "with a later expires_at",
                            messages::to_rfc3339(request.expires_at()),
                            messages::to_rfc3339(*context.now)),
                "expires_at");
  }
}

}  // namespace

ExportOptions to_export_options(const v1::ExportRequest& request, const RequestContext& context) {
  RequestChecker checker;
  ExportOptions options;
  options.request_id = request.request_id();
  options.model_id = check_model_id(request, checker);
  options.source_uri = check_source(request, checker);
  options.output_uri = check_output(request, checker);
  const std::string device = checker.word("device", request.device(), kDevices, "cpu");
  options.device = find_device(device).value_or(Device::kCpu);
  const std::string dtype = checker.word("dtype", request.dtype(), kDtypes, "fp32");
  options.dtype = find_float_dtype(dtype).value_or(FloatDtype::kFp32);
  if (dtype == "bf16") {
    checker.not_yet("dtype", "\"bf16\"");
  }
  options.keep_weights = check_keep_weights(request, checker);
  options.task = check_task(request, checker);
  if (request.has_opset()) {
    options.opset = request.opset();
    if (options.opset < 1) {
      checker.add("opset", fmt::format("{} is not an opset; expected 17 or 18", options.opset));
    } else if (options.opset != 17 && options.opset != 18) {
      checker.unsupported.push_back(
          {"opset", fmt::format("{} is not offered; expected 17 or 18", options.opset)});
    }
  }
  options.no_config = request.no_config();
  check_verify(request.verify(), checker, options);
  options.overwrite = request.overwrite();
  options.export_timestamp = context.export_timestamp;
  if (request.has_expires_at() && !messages::is_in_range(request.expires_at())) {
    checker.add("expires_at", "not a time between the years 1 and 9999");
  }
  check_later_capabilities(request, checker);
  if (!checker.invalid.empty()) {
    throw make_problems_error(ErrorCode::kInvalidRequest, std::move(checker.invalid));
  }
  if (!checker.unsupported.empty()) {
    throw make_problems_error(ErrorCode::kUnsupportedOption, std::move(checker.unsupported));
  }
  check_expiry(request, context);
  return options;
}

std::optional<std::chrono::system_clock::time_point> find_expiry(const v1::ExportRequest& request) {
  if (!request.has_expires_at() || !messages::is_in_range(request.expires_at())) {
    return std::nullopt;
  }
  return messages::to_time_point(request.expires_at());
}

}  // namespace onnxferry
