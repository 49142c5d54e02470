// The child side of a job: one JobSpec in, JobEvents out, nothing else. It reads no flags, so that
// nothing about a job (least of all a presigned URL) shows in the process list.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <memory>
#include <new>
#include <optional>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pipeline/run.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/verify/verify.h"
#include "pipeline/weights_cache.h"
#include "worker/commands.h"
#include "worker/environment.h"
#include "worker/job_events.h"
#include "worker/job_spec.h"
#include "worker/reply.h"
#include "worker/request_options.h"

namespace onnxferry {
namespace {

constexpr int kEventDescriptor = 3;

std::atomic<bool> cancelled = false;
std::atomic<bool> cpu_time_spent = false;
static_assert(std::atomic<bool>::is_always_lock_free, "written by a signal handler");

void on_terminate(int /*signal*/) {
  cancelled = true;
}

/// The soft limit of CPU time: the job ends itself, as when it is cancelled, so that no upload
/// stays open. The hard limit follows for one that does not.
void on_cpu_limit(int /*signal*/) {
  cpu_time_spent = true;
  cancelled = true;
}

/// The worker asks for an end with SIGTERM; a key press at the worker's terminal is not for us.
void install_signals() {
  struct sigaction action{};
  action.sa_handler = on_terminate;
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = on_cpu_limit;
  sigaction(SIGXCPU, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGPIPE, &action, nullptr);
}

/// End with the worker, whatever ends it. The signal covers its death from now on, the comparison
/// its death before now.
bool follow_parent(std::int32_t parent_pid) {
  return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && (parent_pid == 0 || getppid() == parent_pid);
}

ExportReport run_spec(const v1::JobSpec& spec, StageObserver& observer) {
  const ExportOptions options =
      to_export_options(spec.request(), {.export_timestamp = spec.export_timestamp(), .now = {}});
  StoreConfig store_config = to_store_config(spec.stores());
  // The worker logs what stands on stderr as WARN.
  store_config.notice = [](std::string_view sentence) { fmt::print(stderr, "{}\n", sentence); };
  const std::unique_ptr<Stores> stores = make_stores(std::move(store_config), process_environment);
  std::shared_ptr<OnnxRuntime> runtime;
  if (options.verify > VerifyLevel::kStructure) {
    runtime = OnnxRuntime::load(spec.onnxruntime_library());
  }
  std::optional<WeightsCache> cache;
  if (spec.weights_cache_bytes() > 0) {
    cache.emplace(spec.weights_cache(), spec.weights_cache_bytes(), spec.stores().endpoint());
  }
  Workspace workspace{.scratch = spec.scratch(),
                      .limits = to_archive_limits(spec.limits()),
                      .runtime = runtime.get(),
                      .cache = cache ? &*cache : nullptr};
  return run_export(options, *stores, workspace, observer);
}

std::uint64_t cpu_limit_seconds() {
  rlimit limit{};
  getrlimit(RLIMIT_CPU, &limit);
  return limit.rlim_cur;
}

/// Errors outside of a stage are ours or the host's; inside, in_stage has named them already.
v1::Failure describe_failure() {
  try {
    throw;
  } catch (const Error& error) {
    if (cpu_time_spent && error.code() == ErrorCode::kCancelled) {
      return make_cpu_failure(cpu_limit_seconds(),
                              error.stage() ? to_string(*error.stage()) : std::string_view());
    }
    return to_message(error);
  } catch (const std::bad_alloc&) {
    return make_failure(ErrorCode::kResourceExhausted,
                        "out of memory; raise the job's memory limit or use a larger worker");
  } catch (const std::exception& error) {
    return make_failure(ErrorCode::kInternal,
                        fmt::format("unexpected exception: {}", error.what()));
  }
}

int run_job() {
  install_signals();
  pthread_setname_np(pthread_self(), "job");
  if (fcntl(kEventDescriptor, F_GETFD) < 0) {
    fmt::print(stderr, "onnxferry job is started by onnxferry serve; use onnxferry export\n");
    return kExitUsage;
  }
  fcntl(kEventDescriptor, F_SETFD, FD_CLOEXEC);
  JobEventWriter events(kEventDescriptor, cancelled);
  bool is_told = false;
  try {
    v1::JobSpec spec;
    read_frame(STDIN_FILENO, spec);
    if (!follow_parent(spec.parent_pid())) {
      return kExitFailure;  // nobody is left to hear why
    }
    is_told = events.finish(to_message(run_spec(spec, events)));
  } catch (...) {
    is_told = events.finish(describe_failure());
  }
  return is_told ? kExitOk : kExitFailure;
}

}  // namespace

void add_job_command(CLI::App& app, int& exit_code) {
  CLI::App* job = app.add_subcommand(
      "job", "Run one job for serve: a JobSpec on stdin, events to descriptor 3");
  job->group("");
  job->callback([&exit_code] { exit_code = run_job(); });
}

}  // namespace onnxferry
