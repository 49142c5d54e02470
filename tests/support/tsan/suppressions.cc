// What ThreadSanitizer is told not to look at. Third-party libraries only: a race in our code is
// mended.

// librdkafka is not instrumented, so its reference counts (atomics) order nothing that
// ThreadSanitizer sees: a message that we have read and given back is then "freed too early" by a
// thread of the library. The accesses inside functions of libc that librdkafka itself calls (free,
// memcpy) are left out; what our code does is looked at in its callbacks too, and the library's
// locks (c11_threads.cc) still order.
extern "C" const char* __tsan_default_suppressions();

// NOLINTNEXTLINE(bugprone-reserved-identifier): ThreadSanitizer asks for this name
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:librdkafka.so\n";
}
