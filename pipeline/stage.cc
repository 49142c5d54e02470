#include "pipeline/stage.h"

#include <filesystem>
#include <new>
#include <system_error>

#include <fmt/format.h>

namespace onnxferry {

void StageScope::add_bytes(std::uint64_t count) {
  const std::uint64_t done = bytes_ += count;
  observer_.progress(stage_, done, total_);
  check_cancelled();
}

void StageScope::check_cancelled() const {
  if (observer_.is_cancelled()) {
    throw Error(ErrorCode::kCancelled, "the job was cancelled");
  }
}

namespace stage_detail {
namespace {

bool is_out_of_space(const std::error_code& code) {
  return code == std::errc::no_space_on_device || code == std::errc::too_many_files_open ||
         code.value() == EDQUOT;
}

Error to_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return {ErrorCode::kResourceExhausted,
            "out of memory; raise the job's memory limit or use a larger worker"};
  } catch (const std::filesystem::filesystem_error& error) {
    return {is_out_of_space(error.code()) ? ErrorCode::kResourceExhausted : ErrorCode::kInternal,
            error.what(),
            error.path1().filename().string()};
  } catch (const std::system_error& error) {
    return {is_out_of_space(error.code()) ? ErrorCode::kResourceExhausted : ErrorCode::kInternal,
            error.what()};
  } catch (const std::exception& error) {
    return {ErrorCode::kInternal, fmt::format("unexpected exception: {}", error.what())};
  }
}

Error named_error(Stage stage) {
  Error error = to_error();
  if (!error.stage()) {
    error.set_stage(stage);
  }
  return error;
}

}  // namespace

void rethrow_as_error(Stage stage) {
  throw named_error(stage);
}

}  // namespace stage_detail
}  // namespace onnxferry
