// A job process for the worker's tests: reads a JobSpec, does what the request's model_id says,
// writes JobEvents.
//
//   ok                      a result at once (also for anything unknown)
//   sleep:MS                runs so long first
//   wait:MS                 reports the store as unavailable for so long first
//   progress:N              reports N parts done of N, one each 200 ms
//   stubborn                ignores SIGTERM from here on
//   spin                    uses CPU time until something ends it
//   stderr:TEXT             writes a line to stderr
//   crash                   dies of SIGSEGV
//   crash-until:N           dies of SIGSEGV in each start before the N-th
//   exit:CODE               ends without a result
//   fail:CODE               a failure, e.g. fail:CORRUPT_ARCHIVE
//   fail-until:N:CODE       the same in each start before the N-th
//
// With a command as arguments, the model_id "real" hands the job over to it.
//
// Several are separated by ';'. Each start appends "<pid> <time>" to the file named by the label
// starts_file; without it nothing is counted.
#include <chrono>
#include <csignal>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

#include "onnxferry/v1/job.pb.h"
#include "worker/job_events.h"

namespace {

using onnxferry::frame;

constexpr int kEvents = 3;

void write_event(const onnxferry::v1::JobEvent& event) {
  const std::string bytes = frame(event);
  if (::write(kEvents, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    std::_Exit(9);
  }
}

void sleep_ms(const std::string& text) {
  std::this_thread::sleep_for(std::chrono::milliseconds(std::stoi(text)));
}

void write_waiting(bool waiting) {
  onnxferry::v1::JobEvent event;
  event.mutable_waiting()->set_stage("download");
  event.mutable_waiting()->set_waiting(waiting);
  event.mutable_waiting()->set_reason("the test said so");
  write_event(event);
}

void report_progress(std::uint64_t parts) {
  for (std::uint64_t done = 1; done <= parts; ++done) {
    onnxferry::v1::JobEvent event;
    event.mutable_progress()->set_stage("download");
    event.mutable_progress()->set_done(done);
    event.mutable_progress()->set_total(parts);
    write_event(event);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

/// Count this start. \return its number, from 1
int count_start(const onnxferry::v1::ExportRequest& request) {
  const auto label = request.labels().find("starts_file");
  if (label == request.labels().end()) {
    return 1;
  }
  const std::string line =
      std::to_string(::getpid()) + " " +
      std::to_string(std::chrono::system_clock::now().time_since_epoch().count()) + "\n";
  const int file = ::open(label->second.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (::write(file, line.data(), line.size()) < 0) {
    std::_Exit(9);
  }
  ::close(file);
  std::ifstream read(label->second);
  int count = 0;
  for (std::string text; std::getline(read, text);) {
    ++count;
  }
  return count;
}

[[noreturn]] void fail(const std::string& name) {
  onnxferry::v1::ErrorCode code{};
  onnxferry::v1::ErrorCode_Parse(name, &code);
  onnxferry::v1::JobEvent event;
  event.mutable_failure()->set_code(code);
  event.mutable_failure()->set_message("the test said so");
  event.mutable_failure()->set_stage("extract");
  write_event(event);
  std::_Exit(1);
}

void obey(const std::string& directive, int start) {
  const std::size_t colon = directive.find(':');
  const std::string name = directive.substr(0, colon);
  const std::string value = colon == std::string::npos ? "" : directive.substr(colon + 1);
  if (name == "sleep") {
    sleep_ms(value);
  } else if (name == "wait") {
    write_waiting(true);
    sleep_ms(value);
    write_waiting(false);
  } else if (name == "progress") {
    report_progress(std::stoull(value));
  } else if (name == "stubborn") {
    (void)std::signal(SIGTERM, SIG_IGN);
  } else if (name == "spin") {
    while (std::clock() >= 0) {
    }
  } else if (name == "stderr") {
    (void)!::write(STDERR_FILENO, (value + "\n").data(), value.size() + 1);
  } else if (name == "crash" || (name == "crash-until" && start < std::stoi(value))) {
    (void)std::signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would report it and exit instead
    (void)std::raise(SIGSEGV);
  } else if (name == "exit") {
    std::_Exit(std::stoi(value));
  } else if (name == "fail") {
    fail(value);
  } else if (name == "fail-until" && start < std::stoi(value)) {
    fail(value.substr(value.find(':') + 1));
  }
}

}  // namespace

int main(int argc, char** argv) {
  onnxferry::v1::JobSpec spec;
  onnxferry::read_frame(STDIN_FILENO, spec);
  if (argc > 1 && spec.request().model_id() == "real") {
    ::lseek(STDIN_FILENO, 0, SEEK_SET);  // the worker gives a memory file
    ::execv(argv[1], argv + 1);
    std::_Exit(9);
  }
  const int start = count_start(spec.request());
  onnxferry::v1::JobEvent event;
  event.mutable_stage_started()->set_stage("download");
  write_event(event);
  std::ofstream(spec.scratch() + "/file") << "scratch";
  std::istringstream directives(spec.request().model_id());
  for (std::string directive; std::getline(directives, directive, ';');) {
    obey(directive, start);
  }
  event.mutable_stage_finished()->set_stage("download");
  event.mutable_stage_finished()->set_ms(1);
  event.mutable_stage_finished()->set_bytes(7);
  write_event(event);
  event.mutable_result()->set_output_uri(spec.request().output_dir());
  write_event(event);
  return 0;
}
