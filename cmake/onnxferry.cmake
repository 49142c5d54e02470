# Flags of our own code; third-party headers are SYSTEM and stay out of it.
add_library(onnxferry_flags INTERFACE)
target_include_directories(onnxferry_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(onnxferry_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wold-style-cast -Wnon-virtual-dtor
  -Woverloaded-virtual -Wno-missing-field-initializers)
target_compile_definitions(onnxferry_flags INTERFACE _GLIBCXX_ASSERTIONS)
# No path of this machine in a binary, and the same objects in every checkout: with the presets' CCACHE_BASEDIR a second
# one compiles nothing again.
add_compile_options(-ffile-prefix-map=${CMAKE_SOURCE_DIR}=.)
if(ONNXFERRY_SANITIZE)
  add_compile_options(-fsanitize=${ONNXFERRY_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${ONNXFERRY_SANITIZE})
  if(ONNXFERRY_SANITIZE MATCHES thread)
    # With this macro protobuf's headers give map fields another layout than the system's library has.
    add_compile_options(-U__SANITIZE_THREAD__)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/support/tsan/*.cc)
    add_library(onnxferry_tsan OBJECT ${sources})
    target_link_libraries(onnxferry_tsan PRIVATE onnxferry_flags)
    # Every program, as what it holds must be in the program itself to come before the libraries.
    link_libraries($<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:$<TARGET_OBJECTS:onnxferry_tsan>>)
  endif()
else()
  target_compile_definitions(onnxferry_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2>)
endif()

# A third of a compile is the standard library, {fmt} and GoogleTest. The presets for tests precompile them, once for the
# libraries and once for the test programs; the others do not, so that a file is also compiled with just what it includes.
# -fpch-preprocess is for ccache: it hashes the precompiled header instead of the text.
function(onnxferry_precompile target)
  if(ONNXFERRY_PCH)
    target_compile_options(${target} PRIVATE -fpch-preprocess)
    target_precompile_headers(${target} ${ARGN})
  endif()
endfunction()
set(ONNXFERRY_COMMON_HEADERS
  <algorithm> <array> <chrono> <cmath> <cstdint> <filesystem> <fstream> <functional> <map> <memory> <mutex> <optional>
  <span> <string> <string_view> <thread> <utility> <vector> <fmt/format.h> <fmt/ranges.h>)

# onnxferry_library(NAME DEPS): one static library per folder from every .cc file in it. Adding a file needs no
# change here; what a folder may link, and so include, is the DEPS list.
function(onnxferry_library name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  add_library(onnxferry_${name} STATIC ${sources})
  target_link_libraries(onnxferry_${name} PUBLIC onnxferry_flags ${ARGN})
  onnxferry_precompile(onnxferry_${name} REUSE_FROM onnxferry_base)
endfunction()

# onnxferry_test(NAME LABEL DEPS): one GoogleTest program from every *_test.cc file of the current folder.
function(onnxferry_test name label)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE ${ARGN} onnxferry_test_support GTest::gtest_main)
  onnxferry_precompile(${name} REUSE_FROM onnxferry_test_support)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 600)
endfunction()
