// A calendar clock that jumps, for one process: preloaded (LD_PRELOAD), it adds the seconds that
// the file named by SHIFTED_CLOCK_FILE holds, as 8 bytes of this machine's order, to every reading
// of the time of day. The file is mapped, so writing it is a jump for a process that runs.
//
// As with a real jump, the monotonic clock goes on. Waits until a time of day (librdkafka's, by
// cnd_timedwait) last as long as the shifted clock says; one that is under way sees no jump.
#include <cstdint>
#include <cstdlib>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

namespace {

const volatile std::int64_t* map_shift() {
  static constexpr std::int64_t kNone = 0;
  const char* path = std::getenv("SHIFTED_CLOCK_FILE");  // NOLINT(concurrency-mt-unsafe): at start
  const int file = path == nullptr ? -1 : ::open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return &kNone;
  }
  void* mapped = ::mmap(nullptr, sizeof(std::int64_t), PROT_READ, MAP_SHARED, file, 0);
  ::close(file);
  return mapped == MAP_FAILED ? &kNone : static_cast<const std::int64_t*>(mapped);
}

std::int64_t shift() {
  static const volatile std::int64_t* const mapped = map_shift();
  return *mapped;
}

bool is_time_of_day(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* now) noexcept {
  const long result = ::syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && is_time_of_day(clock)) {
    now->tv_sec += shift();
  }
  return static_cast<int>(result);
}

int gettimeofday(timeval* now, void* /*zone*/) noexcept {
  timespec time{};
  const int result = clock_gettime(CLOCK_REALTIME, &time);
  now->tv_sec = time.tv_sec;
  now->tv_usec = time.tv_nsec / 1000;
  return result;
}

int timespec_get(timespec* now, int base) noexcept {
  return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

int cnd_timedwait(cnd_t* condition, mtx_t* mutex, const timespec* until) {
  static const auto wait =
      reinterpret_cast<decltype(&cnd_timedwait)>(::dlsym(RTLD_NEXT, "cnd_timedwait"));
  timespec kernels = *until;
  kernels.tv_sec -= shift();
  return wait(condition, mutex, &kernels);
}

time_t time(time_t* out) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != nullptr) {
    *out = now.tv_sec;
  }
  return now.tv_sec;
}

}  // extern "C"
