#include "worker/job_cgroup.h"

#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <ranges>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "worker/log.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kWorkerGroup = "onnxferry-worker";
constexpr std::string_view kJobPrefix = "onnxferry-job-";
constexpr unsigned kPeriodMicroseconds = 100'000;

std::string describe_errno(int error) {
  return std::system_category().message(error);
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// \return 0 or an errno; the kernel takes or refuses a value in one write
int write_text(const fs::path& path, std::string_view text) {
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (file.get() < 0) {
    return errno;
  }
  return ::write(file.get(), text.data(), text.size()) < 0 ? errno : 0;
}

std::set<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

/// What stands behind `key` in lines of "key value".
std::uint64_t find_count(const std::string& text, std::string_view key) {
  std::istringstream stream(text);
  std::string name;
  std::uint64_t value = 0;
  while (stream >> name >> value) {
    if (name == key) {
      return value;
    }
  }
  return 0;
}

std::vector<std::string> needed_controllers(const JobCgroups::Limits& limits) {
  return limits.cpu_percent == 0 ? std::vector<std::string>{"memory"}
                                 : std::vector<std::string>{"memory", "cpu"};
}

/// Why the group is not ours to divide; empty: it is.
std::string find_obstacle(const fs::path& base,
                          const fs::path& own,
                          const JobCgroups::Limits& limits) {
  const std::set<std::string> controllers = words(read_text(base / "cgroup.controllers"));
  for (const std::string& name : needed_controllers(limits)) {
    if (!controllers.contains(name)) {
      return fmt::format("{} has no controller {}", base.string(), name);
    }
  }
  if (words(read_text(own / "cgroup.procs")) != std::set{std::to_string(::getpid())}) {
    return fmt::format("{} holds other processes too", own.string());
  }
  if (own != base && !words(read_text(base / "cgroup.procs")).empty()) {
    return fmt::format("{} holds processes", base.string());
  }
  if (::access(base.c_str(), W_OK) != 0 ||
      ::access((base / "cgroup.subtree_control").c_str(), W_OK) != 0) {
    return fmt::format("{} is not writable", base.string());
  }
  return {};
}

}  // namespace

JobCgroup::JobCgroup(JobCgroups& owner, fs::path path, Descriptor procs)
    : owner_(owner), path_(std::move(path)), procs_(std::move(procs)) {}

JobCgroup::~JobCgroup() {
  owner_.end(path_);
}

bool JobCgroup::was_oom_killed() const {
  return find_count(read_text(path_ / "memory.events"), "oom_kill") > 0;
}

std::unique_ptr<JobCgroups> JobCgroups::take_over(const fs::path& own,
                                                  const Limits& limits,
                                                  std::string& problem,
                                                  RemoveGroup remove) {
  // Already there: a supervisor put us into it (systemd's DelegateSubgroup=).
  const bool is_inside = own.filename() == kWorkerGroup;
  const fs::path base = is_inside ? own.parent_path() : own;
  problem = find_obstacle(base, own, limits);
  if (!problem.empty()) {
    return nullptr;
  }
  const fs::path inner = base / kWorkerGroup;
  const std::string self = std::to_string(::getpid());
  if (!is_inside) {
    std::error_code error;
    fs::create_directory(inner, error);
    if (const int moved = write_text(inner / "cgroup.procs", self); moved != 0) {
      problem = fmt::format("cannot move to {}: {}", inner.string(), describe_errno(moved));
      (void)remove(inner);
      return nullptr;
    }
  }
  std::string enabled;
  for (const std::string& name : needed_controllers(limits)) {
    enabled += fmt::format("{}+{}", enabled.empty() ? "" : " ", name);
  }
  if (const int error = write_text(base / "cgroup.subtree_control", enabled); error != 0) {
    problem =
        fmt::format("cannot enable {} in {}: {}", enabled, base.string(), describe_errno(error));
    if (!is_inside && write_text(own / "cgroup.procs", self) == 0) {
      (void)remove(inner);
    }
    return nullptr;
  }
  std::unique_ptr<JobCgroups> groups(new JobCgroups(base, limits, remove));
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(base, error)) {
    if (entry.path().filename().string().starts_with(kJobPrefix)) {
      groups->left_.insert(entry.path());
    }
  }
  groups->sweep();
  return groups;
}

std::unique_ptr<JobCgroup> JobCgroups::make() {
  sweep();
  fs::path path;
  do {
    path = base_ / fmt::format("{}{}", kJobPrefix, next_job_++);
  } while (left_.contains(path));
  const auto refuse = [&path](std::string_view what, int error) {
    log(LogLevel::kWarn,
        "a job runs without a control group; only its rlimits hold",
        {{"path", path.string()}, {"what", std::string(what)}, {"error", describe_errno(error)}});
    return std::unique_ptr<JobCgroup>();
  };
  std::error_code error;
  if (!fs::create_directory(path, error)) {
    return refuse("mkdir", error ? error.value() : EEXIST);
  }
  Descriptor procs(::open((path / "cgroup.procs").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  const int open_error = procs.get() < 0 ? errno : 0;
  auto group = std::make_unique<JobCgroup>(*this, path, std::move(procs));
  if (open_error != 0) {
    return refuse("cgroup.procs", open_error);
  }
  if (limits_.memory_bytes != 0) {
    if (const int refused = write_text(path / "memory.max", std::to_string(limits_.memory_bytes));
        refused != 0) {
      return refuse("memory.max", refused);
    }
    // Not there without swap accounting; then there is nothing to forbid.
    (void)write_text(path / "memory.swap.max", "0");
  }
  if (limits_.cpu_percent != 0) {
    const std::string quota = fmt::format(
        "{} {}", limits_.cpu_percent * (kPeriodMicroseconds / 100), kPeriodMicroseconds);
    if (const int refused = write_text(path / "cpu.max", quota); refused != 0) {
      return refuse("cpu.max", refused);
    }
  }
  return group;
}

int JobCgroups::remove_group(const fs::path& group) {
  return ::rmdir(group.c_str()) == 0 || errno == ENOENT ? 0 : errno;
}

// A group can be removed when its last process is gone, which takes a moment after its death.
void JobCgroups::sweep() {
  std::erase_if(left_, [this](const fs::path& group) {
    (void)write_text(group / "cgroup.kill", "1");
    return remove_(group) == 0;
  });
}

void JobCgroups::end(const fs::path& group) {
  left_.insert(group);
  sweep();
}

std::unique_ptr<JobCgroups> make_job_cgroups(const WorkerConfig& config) {
  if (!config.job_cgroups) {
    return nullptr;
  }
  std::string problem = "this process is in none of version 2 that is mounted";
  std::unique_ptr<JobCgroups> groups;
  if (const std::optional<fs::path> own =
          find_cgroup(read_text("/proc/self/cgroup"), read_text("/proc/self/mountinfo"))) {
    groups = JobCgroups::take_over(*own,
                                   {.memory_bytes = config.job_memory_bytes,
                                    .cpu_percent = static_cast<unsigned>(config.job_cpu_percent)},
                                   problem);
  }
  if (groups) {
    log(LogLevel::kInfo, "each job gets a control group of its own");
  } else {
    // Nothing else can hold a job to a share of the processors.
    log(config.job_cpu_percent != 0 ? LogLevel::kWarn : LogLevel::kInfo,
        "no control groups for jobs; only their rlimits hold",
        {{"reason", problem}});
  }
  return groups;
}

std::optional<fs::path> find_cgroup(std::string_view cgroup, std::string_view mountinfo) {
  constexpr std::string_view kVersion2 = "0::";
  std::string path;
  for (const auto& line : std::views::split(cgroup, '\n')) {
    const std::string_view text(line.begin(), line.end());
    if (text.starts_with(kVersion2)) {
      path = text.substr(kVersion2.size());
    }
  }
  // Above the root of our cgroup namespace it begins with "/..".
  if (!path.starts_with('/') || path.starts_with("/..")) {
    return std::nullopt;
  }
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    // id parent device root mount-point options… - type source options
    std::istringstream fields(line.substr(0, line.find(" - ")));
    std::string skipped;
    std::string root;
    std::string mount_point;
    fields >> skipped >> skipped >> skipped >> root >> mount_point;
    const std::size_t type = line.find(" - cgroup2 ");
    if (type == std::string::npos || !fields) {
      continue;
    }
    if (root == "/") {
      root.clear();
    }
    if (path == root || path.starts_with(root + '/')) {
      const std::string below = path.substr(root.size());
      return below == "/" ? fs::path(mount_point) : fs::path(mount_point + below);
    }
  }
  return std::nullopt;
}

}  // namespace onnxferry
