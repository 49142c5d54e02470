#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "worker/child_process.h"
#include "worker/worker_config.h"

namespace onnxferry {

class JobCgroups;

/// The control group of one job; destroying it kills what is left in it and removes it.
class JobCgroup {
 public:
  JobCgroup(JobCgroups& owner, std::filesystem::path path, Descriptor procs);
  ~JobCgroup();
  JobCgroup(const JobCgroup&) = delete;
  JobCgroup& operator=(const JobCgroup&) = delete;

  /// A process that writes "0" there is in the group.
  [[nodiscard]] int procs_descriptor() const { return procs_.get(); }
  /// Whether the kernel killed a process of the group for memory, whosever limit it hit.
  [[nodiscard]] bool was_oom_killed() const;

 private:
  JobCgroups& owner_;
  std::filesystem::path path_;
  Descriptor procs_;
};

/// The worker's own control group (version 2), where it was delegated: each job gets a child of it
/// with limits of its own.
///
/// A group whose children have limits holds no processes itself, so the worker moves to a child
/// too:
///
///     <own group>/onnxferry-worker   the worker
///     <own group>/onnxferry-job-<n>  one job
///
/// Used only when no other process is in the group: then it was made for the worker.
/// Thread: one.
class JobCgroups {
 public:
  struct Limits {
    std::uint64_t memory_bytes = 0;  ///< memory.max; 0: none
    unsigned cpu_percent = 0;        ///< cpu.max, 100 is one processor; 0: none
  };
  /// rmdir(2). \return 0 or an errno
  using RemoveGroup = int (*)(const std::filesystem::path& group);

  /// Move the worker to its child and remove the groups of jobs that a dead worker left.
  /// \param own  the folder of this process's group
  /// \return null, with `problem` saying why, when the group is not ours to divide; nothing is
  ///         changed then
  static std::unique_ptr<JobCgroups> take_over(const std::filesystem::path& own,
                                               const Limits& limits,
                                               std::string& problem,
                                               RemoveGroup remove = remove_group);

  /// A group for the next job. \return null, with a WARN line, when it cannot be made
  std::unique_ptr<JobCgroup> make();

  static int remove_group(const std::filesystem::path& group);

 private:
  friend class JobCgroup;
  JobCgroups(std::filesystem::path base, const Limits& limits, RemoveGroup remove)
      : base_(std::move(base)), limits_(limits), remove_(remove) {}
  void sweep();
  void end(const std::filesystem::path& group);

  std::filesystem::path base_;
  Limits limits_;
  RemoveGroup remove_;
  std::uint64_t next_job_ = 0;
  std::set<std::filesystem::path> left_;  ///< busy when their job ended
};

/// The worker's own group, divided as the configuration says.
/// \return null, with a line in the log, when the jobs' limits are their rlimits only
std::unique_ptr<JobCgroups> make_job_cgroups(const WorkerConfig& config);

/// The folder of a process's control group (version 2).
///
/// \param cgroup     text of /proc/<pid>/cgroup
/// \param mountinfo  text of /proc/<pid>/mountinfo
/// \return nullopt when there is none, or when no mount shows it
std::optional<std::filesystem::path> find_cgroup(std::string_view cgroup,
                                                 std::string_view mountinfo);

}  // namespace onnxferry
