#include "pipeline/checkpoint/weight_choice.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

using Format = WeightChoice::Format;
using AffixPair = std::pair<std::string_view, std::string_view>;

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kSafetensorsIndex = "model.safetensors.index.json";
constexpr std::string_view kTorchFile = "pytorch_model.bin";
constexpr std::string_view kTorchIndex = "pytorch_model.bin.index.json";

/// "fp16" of model.fp16.safetensors or model.safetensors.index.fp16.json, as
/// `from_pretrained(variant=…)` names files; empty if `name` is neither.
std::string_view variant_of(std::string_view name, Format format) {
  constexpr std::array<AffixPair, 2> kSafetensors = {
      {{"model.safetensors.index.", ".json"}, {"model.", ".safetensors"}}};
  constexpr std::array<AffixPair, 2> kTorch = {
      {{"pytorch_model.bin.index.", ".json"}, {"pytorch_model.", ".bin"}}};
  for (const auto& [prefix, suffix] : format == Format::kTorch ? kTorch : kSafetensors) {
    if (name.size() > prefix.size() + suffix.size() && name.starts_with(prefix) &&
        name.ends_with(suffix)) {
      const std::string_view variant =
          name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
      const bool is_shard = variant.find("-of-") != std::string_view::npos;
      return is_shard || variant.find('.') != std::string_view::npos ? std::string_view() : variant;
    }
  }
  return {};
}

[[noreturn]] void fail_unsupported(std::string text, std::string subject) {
  throw Error(ErrorCode::kUnsupportedModel, std::move(text), std::move(subject));
}

/// No file that from_pretrained would load: say what is there instead.
[[noreturn]] void fail_without_weights(const std::vector<std::string>& names) {
  const auto find = [&](auto&& matches) -> std::optional<std::string> {
    const auto at = std::ranges::find_if(names, matches);
    return at == names.end() ? std::nullopt : std::optional(*at);
  };
  const auto ends_with_any = [](std::string_view name,
                                std::initializer_list<const char*> suffixes) {
    return std::ranges::any_of(suffixes,
                               [&](const char* suffix) { return name.ends_with(suffix); });
  };
  if (const auto shard = find([](const std::string& name) {
        return name.starts_with("model") && name.find("-of-") != std::string::npos &&
               name.ends_with(".safetensors");
      })) {
    throw Error(
        ErrorCode::kCorruptCheckpoint,
        fmt::format(
            "found {} but no {}; pack the index with its shards", *shard, kSafetensorsIndex),
        std::string(kSafetensorsIndex));
  }
  if (const auto other =
          find([](const std::string& name) { return name.ends_with(".safetensors"); })) {
    fail_unsupported(fmt::format("found {} but no {}; only files that transformers' "
                                 "from_pretrained loads are read",
                                 *other,
                                 kSingleFile),
                     *other);
  }
  if (const auto other = find([&](const std::string& name) {
        return ends_with_any(name, {".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack"});
      })) {
    fail_unsupported(fmt::format("found {} but no {} or {}; convert the model to safetensors first "
                                 "(save_pretrained in transformers writes it)",
                                 *other,
                                 kSingleFile,
                                 kTorchFile),
                     *other);
  }
  throw Error(
      ErrorCode::kCorruptCheckpoint,
      fmt::format(
          "the model directory has no weights; expected {} or {}", kSingleFile, kSafetensorsIndex),
      std::string(kSingleFile));
}

/// Even beside full weights: transformers would apply the adapter, so exporting without it would be
/// another model.
void check_adapters(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (name == "adapter_config.json" || name.starts_with("adapter_model.")) {
      fail_unsupported(fmt::format("{} makes this an adapter; merge it into its base model first "
                                   "(merge_and_unload in peft) and pack the merged model",
                                   name),
                       name);
    }
  }
}

}  // namespace

std::string_view WeightChoice::extension() const {
  return format == Format::kTorch ? ".bin" : ".safetensors";
}

WeightChoice choose_weights(const std::vector<std::string>& names) {
  check_adapters(names);
  constexpr std::array<std::pair<std::string_view, Format>, 4> kInOrder = {
      {{kSingleFile, Format::kSafetensors},
       {kSafetensorsIndex, Format::kSafetensors},
       {kTorchFile, Format::kTorch},
       {kTorchIndex, Format::kTorch}}};
  for (const auto& [name, format] : kInOrder) {
    if (std::ranges::binary_search(names, name)) {
      return {std::string(name), format};
    }
  }
  for (const Format format : {Format::kSafetensors, Format::kTorch}) {
    std::vector<std::string> variants;
    std::ranges::copy_if(names, std::back_inserter(variants), [&](const std::string& name) {
      return !variant_of(name, format).empty();
    });
    if (variants.size() > 1) {
      fail_unsupported(
          fmt::format("found {} and no {}; keep one of them so that the choice is clear",
                      fmt::join(variants, ", "),
                      format == Format::kTorch ? kTorchFile : kSingleFile),
          variants.front());
    }
    if (!variants.empty()) {
      return {variants.front(), format};
    }
  }
  fail_without_weights(names);
}

}  // namespace onnxferry
