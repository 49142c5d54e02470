#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <mutex>
#include <system_error>

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/error.h"
#include "pipeline/verify/mapped_file.h"
#include "pipeline/verify/session.h"

#ifdef ONNXFERRY_HAS_ONNXRUNTIME
// The library is opened by name at run time: its only symbol carries the exact version it was built
// as, so a program linked against one release would load no other.
#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#include <onnxruntime_session_options_config_keys.h>
#endif

namespace onnxferry {

#ifndef ONNXFERRY_HAS_ONNXRUNTIME

std::shared_ptr<OnnxRuntime> OnnxRuntime::load(const std::string& /*library*/) {
  throw Error(ErrorCode::kUnsupportedOption,
              "this build has no ONNX Runtime support; verify with level structure or none, or "
              "build with ONNXRUNTIME_INCLUDE");
}

#else

namespace {

// Above this much inline weight a model is opened through its weightless copy: ONNX Runtime parses
// a whole file into memory, but maps external data.
constexpr std::uint64_t kMaxParsedBytes = 64ULL << 20U;
constexpr int kThreads = 2;
// Upstream's soname, the name of development packages, and Debian's soname, which carries the minor
// version too.
const std::array<std::string, 3> kLibraryNames = {
    "libonnxruntime.so.1",
    "libonnxruntime.so",
    fmt::format("libonnxruntime.so.1.{}", ORT_API_VERSION),
};

static_assert(static_cast<int>(ElementType::kFloat) == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
static_assert(static_cast<int>(ElementType::kInt32) == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32);
static_assert(static_cast<int>(ElementType::kInt64) == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
static_assert(static_cast<int>(ElementType::kBool) == ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL);
static_assert(static_cast<int>(ElementType::kFloat16) == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16);
static_assert(static_cast<int>(ElementType::kDouble) == ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE);

// ONNX Runtime prints to stderr by itself; what it has to say reaches us as exceptions.
void ORT_API_CALL discard_log(void* /*param*/,
                              OrtLoggingLevel /*severity*/,
                              const char* /*category*/,
                              const char* /*logid*/,
                              const char* /*code_location*/,
                              const char* /*message*/) {}

Error to_error(const std::string& file, std::string_view what, const Ort::Exception& exception) {
  const std::string_view text = exception.what();
  const bool out_of_memory = text.find("bad_alloc") != std::string_view::npos ||
                             text.find("bad allocation") != std::string_view::npos ||
                             text.find("Failed to allocate memory") != std::string_view::npos;
  return {out_of_memory ? ErrorCode::kResourceExhausted : ErrorCode::kVerificationFailed,
          fmt::format("{} {}: {}", file, what, text),
          file};
}

// Weights of a model as values over mapped files. Left alone, ONNX Runtime maps external data
// private and writable, which counts in full against a job's RLIMIT_DATA.
class MappedWeights {
 public:
  MappedWeights() = default;
  /// Tensors in `parsed_file` are left out: ONNX Runtime has read that file.
  MappedWeights(const CheckedModel& model, std::string_view parsed_file) {
    const Ort::MemoryInfo memory =
        Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
    for (const StoredTensor& tensor : model.stored_tensors) {
      if (tensor.file == parsed_file || tensor.bytes == 0 || tensor.type > kLastWholeByteType ||
          tensor.type == kStringType) {
        continue;  // left to ONNX Runtime
      }
      const auto file =
          files_.try_emplace(tensor.file, model.file.parent_path() / tensor.file).first;
      values_.emplace_back(
          tensor.name,
          Ort::Value::CreateTensor(memory,
                                   file->second.data() + tensor.offset,
                                   tensor.bytes,
                                   tensor.dims.data(),
                                   tensor.dims.size(),
                                   static_cast<ONNXTensorElementDataType>(tensor.type)));
    }
  }

  void add_to(Ort::SessionOptions& options) const {
    for (const auto& [name, value] : values_) {
      options.AddInitializer(name.c_str(), value);
    }
  }

 private:
  static constexpr std::int32_t kLastWholeByteType = ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
  static constexpr std::int32_t kStringType = ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;

  std::map<std::string, MappedFile> files_;
  std::vector<std::pair<std::string, Ort::Value>> values_;
};

class OrtSession : public Session {
 public:
  OrtSession(std::string file, MappedWeights weights, Ort::Session session)
      : file_(std::move(file)), weights_(std::move(weights)), session_(std::move(session)) {}

  std::vector<Tensor> run(const std::vector<Tensor>& inputs,
                          const std::vector<std::string>& outputs) override {
    try {
      return take(feed(inputs, outputs), outputs);
    } catch (const Ort::Exception& exception) {
      throw to_error(file_, "does not run", exception);
    }
  }

 private:
  std::vector<Ort::Value> feed(const std::vector<Tensor>& inputs,
                               const std::vector<std::string>& outputs) {
    const Ort::MemoryInfo memory =
        Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
    static std::byte empty{};
    std::vector<Ort::Value> values;
    std::vector<const char*> input_names;
    for (const Tensor& input : inputs) {
      // The C API takes a mutable pointer for both directions; inputs are only read.
      void* const data = input.data.empty() ? static_cast<void*>(&empty)
                                            : const_cast<std::byte*>(input.data.data());
      values.push_back(
          Ort::Value::CreateTensor(memory,
                                   data,
                                   input.data.size(),
                                   input.dims.data(),
                                   input.dims.size(),
                                   static_cast<ONNXTensorElementDataType>(input.type)));
      input_names.push_back(input.name.c_str());
    }
    std::vector<const char*> output_names;
    output_names.reserve(outputs.size());
    for (const std::string& output : outputs) {
      output_names.push_back(output.c_str());
    }
    return session_.Run(Ort::RunOptions(),
                        input_names.data(),
                        values.data(),
                        values.size(),
                        output_names.data(),
                        output_names.size());
  }

  std::vector<Tensor> take(std::vector<Ort::Value> values,
                           const std::vector<std::string>& names) const {
    std::vector<Tensor> tensors;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto info = values[i].GetTensorTypeAndShapeInfo();
      const auto type = static_cast<ElementType>(info.GetElementType());
      if (element_name(static_cast<std::int32_t>(type)).starts_with("type")) {
        throw Error(ErrorCode::kUnsupportedOption,
                    fmt::format("{}: output {} has element {}, which no check understands",
                                file_,
                                names[i],
                                element_name(static_cast<std::int32_t>(type))),
                    file_);
      }
      Tensor tensor = zeros(names[i], type, info.GetShape());
      const auto* const data = static_cast<const std::byte*>(values[i].GetTensorRawData());
      std::copy_n(data, tensor.data.size(), tensor.data.begin());
      tensors.push_back(std::move(tensor));
      values[i] = Ort::Value(nullptr);  // one copy at a time: logits can be large
    }
    return tensors;
  }

  std::string file_;
  MappedWeights weights_;  // used by the session, so it goes after it
  Ort::Session session_;
};

class LoadedRuntime : public SessionFactory {
 public:
  explicit LoadedRuntime(std::string version)
      : version_(std::move(version)),
        env_(ORT_LOGGING_LEVEL_FATAL, "onnxferry", discard_log, nullptr) {}

  [[nodiscard]] std::string version() const override { return version_; }
  [[nodiscard]] std::vector<std::string> providers() const override {
    return Ort::GetAvailableProviders();
  }

  std::unique_ptr<Session> open(const CheckedModel& model, Device device) override {
    const std::string file = model.file.filename().string();
    Ort::SessionOptions options = session_options();
    if (device == Device::kCuda) {
      add_cuda(options);
    }
    try {
      const bool is_small = model.inline_weight_bytes <= kMaxParsedBytes;
      // On another device they are copied there anyway.
      MappedWeights weights = device == Device::kCpu
                                  ? MappedWeights(model, is_small ? file : std::string())
                                  : MappedWeights();
      weights.add_to(options);
      if (is_small) {
        return std::make_unique<OrtSession>(
            file, std::move(weights), Ort::Session(env_, model.file.c_str(), options));
      }
      options.AddConfigEntry(kOrtSessionOptionsModelExternalInitializersFileFolderPath,
                             model.file.parent_path().c_str());
      return std::make_unique<OrtSession>(
          file,
          std::move(weights),
          Ort::Session(env_, model.weightless.data(), model.weightless.size(), options));
    } catch (const Ort::Exception& exception) {
      throw to_error(file, fmt::format("does not load in ONNX Runtime {}", version_), exception);
    }
  }

 private:
  static Ort::SessionOptions session_options() {
    Ort::SessionOptions options;
    options.SetGraphOptimizationLevel(ORT_ENABLE_BASIC);
    options.SetIntraOpNumThreads(kThreads);
    options.SetInterOpNumThreads(1);
    // Keep weights where they are (mapped) instead of packed copies, give memory back after each
    // run, and do not spin: a check runs a few times, next to other work.
    options.AddConfigEntry(kOrtSessionOptionsConfigDisablePrepacking, "1");
    options.AddConfigEntry(kOrtSessionOptionsConfigAllowIntraOpSpinning, "0");
    options.DisableCpuMemArena();
    options.DisableMemPattern();
    return options;
  }

  void add_cuda(Ort::SessionOptions& options) const {
    const std::vector<std::string> available = providers();
    if (std::ranges::find(available, "CUDAExecutionProvider") == available.end()) {
      throw Error(ErrorCode::kUnsupportedOption,
                  fmt::format("device cuda needs the CUDA provider; ONNX Runtime {} here offers "
                              "only {}",
                              version_,
                              fmt::join(available, ", ")),
                  "device");
    }
    try {
      options.AppendExecutionProvider_CUDA(OrtCUDAProviderOptions{});
    } catch (const Ort::Exception& exception) {
      throw Error(
          ErrorCode::kUnsupportedOption,
          fmt::format("device cuda: the CUDA provider of ONNX Runtime {} does not start: {}",
                      version_,
                      exception.what()),
          "device");
    }
  }

  std::string version_;
  Ort::Env env_;
};

std::vector<std::string> candidates(const std::string& library) {
  if (!library.empty()) {
    return {library};
  }
  std::vector<std::string> found;
  std::error_code code;
  const std::filesystem::path executable = std::filesystem::read_symlink("/proc/self/exe", code);
  if (!code) {
    const std::filesystem::path bin = executable.parent_path();
    for (const std::filesystem::path& folder : {bin, bin.parent_path() / "lib"}) {
      for (const std::string& name : kLibraryNames) {
        found.push_back((folder / name).string());
      }
    }
  }
  found.insert(found.end(), kLibraryNames.begin(), kLibraryNames.end());
  return found;
}

void* open_library(const std::string& library) {
  std::vector<std::string> reasons;
  for (const std::string& candidate : candidates(library)) {
    void* const handle = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) {
      return handle;
    }
    // NOLINTNEXTLINE(concurrency-mt-unsafe): glibc keeps dlerror per thread
    const char* const reason = ::dlerror();
    reasons.emplace_back(reason == nullptr ? candidate : reason);
  }
  throw Error(ErrorCode::kUnsupportedOption,
              fmt::format("no ONNX Runtime library can be opened (tried: {}); install one, name it "
                          "with --onnxruntime or ONNXFERRY_ONNXRUNTIME, or verify with level "
                          "structure",
                          fmt::join(reasons, "; ")),
              library);
}

std::shared_ptr<OnnxRuntime> initialize(void* handle, const std::string& library) {
  using GetApiBase = const OrtApiBase* (*)();
  const auto get_api_base = reinterpret_cast<GetApiBase>(::dlsym(handle, "OrtGetApiBase"));
  if (get_api_base == nullptr) {
    throw Error(ErrorCode::kUnsupportedOption,
                fmt::format("{} is not ONNX Runtime: it has no OrtGetApiBase", library),
                library);
  }
  const OrtApiBase* const base = get_api_base();
  const std::string version = base->GetVersionString();
  const OrtApi* const api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    throw Error(
        ErrorCode::kUnsupportedOption,
        fmt::format(
            "ONNX Runtime {} is too old; 1.{} or newer is needed", version, ORT_API_VERSION),
        library);
  }
  Ort::InitApi(api);
  return std::make_shared<LoadedRuntime>(version);
}

}  // namespace

std::shared_ptr<OnnxRuntime> OnnxRuntime::load(const std::string& library) {
  struct Loaded {
    std::mutex mutex;
    void* handle = nullptr;
    std::shared_ptr<OnnxRuntime> runtime;
  };
  // Never destroyed: ONNX Runtime's threads and statics may outlive ours at exit.
  static auto& loaded = *new Loaded;

  const std::scoped_lock lock(loaded.mutex);
  void* const handle = open_library(library);
  if (loaded.runtime == nullptr) {
    loaded.runtime = initialize(handle, library);
    loaded.handle = handle;
  }
  if (handle != loaded.handle) {
    throw Error(ErrorCode::kUnsupportedOption,
                fmt::format("ONNX Runtime {} is already loaded; a process can use only one",
                            loaded.runtime->version()),
                library);
  }
  return loaded.runtime;
}

#endif

}  // namespace onnxferry
