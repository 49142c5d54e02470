// What ThreadSanitizer is told not to look at. Third-party libraries only: a race in our code is
// mended.

// librdkafka is not instrumented, so its reference counts (atomics) order nothing that
// ThreadSanitizer sees: a message that we have read and given back is then "freed too early" by a
// thread of the library. The accesses inside functions of libc that librdkafka itself calls (free,
// memcpy) are left out; what our code does is looked at in its callbacks too, and the library's
// locks (c11_threads.cc) still order. Not so its read-write locks, which it takes from libc itself:
// a mutex made under one of those and used by another thread "races" with its own making.
//
// ONNX Runtime likewise hands over by atomics what one thread of its pool allocates and another one
// frees. It calls nothing of ours, so a race with one of its functions in the stack is its own; and
// its locks, unlike librdkafka's, must not be left out: condition variables use them from
// libstdc++.
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): the name asked for
extern "C" const char* __tsan_default_suppressions();

extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:librdkafka.so\n"
         "race:^mtx_\n"
         "race:libonnxruntime.so\n";
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
