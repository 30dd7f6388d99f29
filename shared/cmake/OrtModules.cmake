# One folder, one target. A target's include root holds a single link, named like its folder, so
# `#include "index/hnsw.h"` compiles only where the target links dp_index: links are the arrows.

function(ort__include_root target folder out)
  set(root "${CMAKE_BINARY_DIR}/include/${target}")
  file(MAKE_DIRECTORY "${root}")
  get_filename_component(name "${folder}" NAME)
  file(CREATE_LINK "${folder}" "${root}/${name}" SYMBOLIC)
  set(${out} "${root}" PARENT_SCOPE)
endfunction()

# ort_module(NAME SOURCES ... [EXPOSES what the public headers need] [LINKS what the sources need])
function(ort_module target)
  cmake_parse_arguments(M "" "" "SOURCES;EXPOSES;LINKS" ${ARGN})
  add_library(${target} STATIC ${M_SOURCES})
  ort__include_root(${target} "${CMAKE_CURRENT_SOURCE_DIR}" root)
  target_include_directories(${target} PUBLIC "${root}")
  target_link_libraries(${target} PUBLIC ${M_EXPOSES} PRIVATE ${M_LINKS})
endfunction()

# ort_program(NAME SOURCES ... LINKS ...): an executable in build/<preset>/bin
function(ort_program target)
  cmake_parse_arguments(P "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${target} ${P_SOURCES})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
  target_link_libraries(${target} PRIVATE ${P_LINKS})
endfunction()

# ort_test(NAME LABEL unit|integration|e2e|fault [SOURCES ...] LINKS ... [TIMEOUT s])
# NAME.c in the current folder unless SOURCES says otherwise; a cmocka program, one binary a test.
function(ort_test name)
  cmake_parse_arguments(T "" "LABEL;TIMEOUT" "SOURCES;LINKS" ${ARGN})
  if(NOT T_SOURCES)
    set(T_SOURCES ${name}.c)
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 900) # against what hangs: the longest takes a minute, and machines are busy
  endif()
  add_executable(${name} ${T_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  target_include_directories(${name} PRIVATE "${CMAKE_SOURCE_DIR}/tests")
  target_link_libraries(${name} PRIVATE ${T_LINKS} ort_cmocka)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES LABELS ${T_LABEL} TIMEOUT ${T_TIMEOUT}
    ENVIRONMENT "ORT_DATA_DIR=${CMAKE_SOURCE_DIR}/../shared/data;OPENBLAS_NUM_THREADS=1;TSAN_OPTIONS=suppressions='${CMAKE_SOURCE_DIR}/tests/tsan.suppressions';LSAN_OPTIONS=suppressions='${CMAKE_SOURCE_DIR}/tests/lsan.suppressions':print_suppressions=0")
endfunction()

# ort_fuzz(NAME LINKS ...): a libFuzzer program in preset fuzz, nothing elsewhere. NAME.c in the
# current folder; its corpus is corpus/NAME/.
function(ort_fuzz name)
  if(NOT ORT_PRESET STREQUAL "fuzz")
    return()
  endif()
  cmake_parse_arguments(F "" "" "LINKS" ${ARGN})
  add_executable(${name} ${name}.c)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/fuzz")
  target_include_directories(${name} PRIVATE "${CMAKE_SOURCE_DIR}/tests")
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(${name} PRIVATE ${F_LINKS})
endfunction()
