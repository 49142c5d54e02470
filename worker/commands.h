#pragma once

namespace CLI {
class App;
}

namespace onnxferry {

/// Exit codes of every subcommand. submit adds kExitTimeout.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;  ///< the job failed; "CODE: message" stands on stderr
inline constexpr int kExitUsage = 2;    ///< wrong flags or configuration
inline constexpr int kExitTimeout = 3;

/// Each adds one subcommand with its flags to the program. Its callback runs the command and sets
/// `exit_code`; both arguments outlive the parse. An Error that leaves a callback is printed by
/// main.cc.
void add_export_command(CLI::App& app, int& exit_code);
void add_serve_command(CLI::App& app, int& exit_code);
void add_submit_command(CLI::App& app, int& exit_code);
void add_verify_command(CLI::App& app, int& exit_code);
void add_models_command(CLI::App& app, int& exit_code);
void add_demo_command(CLI::App& app, int& exit_code);
/// Hidden from help: the child process of serve.
void add_job_command(CLI::App& app, int& exit_code);

}  // namespace onnxferry
