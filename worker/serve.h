#pragma once

#include "worker/worker_config.h"

namespace onnxferry {

/// Run a worker with its log, HTTP server and signals until SIGTERM or SIGINT has drained it.
/// \return the exit code; \throws Error when the worker cannot start or go on
/// Thread: the process's main thread, before any other thread exists.
int run_worker(const WorkerConfig& config);

}  // namespace onnxferry
