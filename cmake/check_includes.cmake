cmake_minimum_required(VERSION 3.25)

# Which folder may include which (each row: folder, then the folders it may include besides its own).
# pipeline/base stands for the headers directly in pipeline/ that everyone may use.
set(RULES
  "messages:"
  "pipeline/storage:pipeline/base"
  "pipeline/zip:pipeline/base"
  "pipeline/archive:pipeline/base,pipeline/zip"
  "pipeline/checkpoint:pipeline/base,pipeline/zip"
  "pipeline/weights:pipeline/base,pipeline/checkpoint"
  "pipeline/graph:pipeline/base,pipeline/checkpoint,pipeline/weights"
  "pipeline/architectures:pipeline/base,pipeline/checkpoint,pipeline/weights,pipeline/graph"
  "pipeline/passes:pipeline/base,pipeline/checkpoint,pipeline/weights,pipeline/graph"
  "pipeline/output:pipeline/base,pipeline/checkpoint,pipeline/weights,pipeline/graph,pipeline/storage"
  "pipeline/verify:pipeline/base"
  "pipeline:pipeline/base,pipeline/storage,pipeline/archive,pipeline/checkpoint,pipeline/weights,pipeline/graph,pipeline/architectures,pipeline/passes,pipeline/output,pipeline/verify"
  "worker:pipeline/base,pipeline/run,pipeline/storage,pipeline/architectures,pipeline/archive,pipeline/verify,messages"
)
# Third-party headers stay behind one folder each.
set(FENCES
  "librdkafka/:worker" "curl/:pipeline/storage" "pugixml:pipeline/storage" "archive.h:pipeline/archive" "archive_entry.h:pipeline/archive"
  "isa-l:pipeline/archive" "zstd:pipeline/archive" "onnxruntime:pipeline/verify" "hwy/:pipeline/weights" "httplib:worker" "prometheus/:worker" "CLI/:worker" "systemd/:worker")

set(failed 0)
foreach(rule IN LISTS RULES)
  string(REGEX MATCH "^([^:]*):(.*)$" _ "${rule}")
  set(folder ${CMAKE_MATCH_1})
  string(REPLACE "," ";" allowed "${CMAKE_MATCH_2}")
  file(GLOB files ${ROOT}/${folder}/*.cc ${ROOT}/${folder}/*.h)
  foreach(file IN LISTS files)
    file(STRINGS ${file} lines REGEX "^#include ")
    foreach(line IN LISTS lines)
      if(line MATCHES "^#include \"((messages|pipeline|worker)(/[a-z0-9_/]*)?)/([a-z0-9_.]+)\"")
        set(target ${CMAKE_MATCH_1})
        set(header ${CMAKE_MATCH_4})
        if(target STREQUAL "pipeline" AND header STREQUAL "run.h")
          set(target "pipeline/run")
        elseif(target STREQUAL "pipeline")
          set(target "pipeline/base")
        elseif(target MATCHES "^messages")
          set(target "messages")
        endif()
        if(folder STREQUAL "pipeline" AND target STREQUAL "pipeline/run")
          continue()
        endif()
        if(NOT target STREQUAL folder AND NOT target IN_LIST allowed)
          message(SEND_ERROR "${file}: ${folder} may not include ${target}/${header}")
          set(failed 1)
        endif()
      endif()
      foreach(fence IN LISTS FENCES)
        string(REGEX MATCH "^([^:]*):(.*)$" _ "${fence}")
        set(prefix ${CMAKE_MATCH_1})
        set(owner ${CMAKE_MATCH_2})
        if(line MATCHES "^#include [<\"]${prefix}" AND NOT folder STREQUAL owner)
          message(SEND_ERROR "${file}: only ${owner} may include ${prefix}")
          set(failed 1)
        endif()
      endforeach()
    endforeach()
  endforeach()
endforeach()
if(failed)
  message(FATAL_ERROR "include directions are wrong (cmake/check_includes.cmake has the table)")
endif()
