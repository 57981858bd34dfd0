# A module is a folder with one static library, raftogram_<name>. It may include only the modules in
# its DEPS; tests/integration/check_layers.py checks that.

set(RAFTOGRAM_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes
    -Wpointer-arith -Wundef -Wvla -Wwrite-strings -Wformat=2 -Wno-unused-parameter)
if(RAFTOGRAM_WERROR)
  list(APPEND RAFTOGRAM_WARNINGS -Werror)
endif()

set(RAFTOGRAM_SANITIZE_FLAGS "")
if(RAFTOGRAM_SANITIZE)
  set(RAFTOGRAM_SANITIZE_FLAGS -fsanitize=${RAFTOGRAM_SANITIZE} -fno-omit-frame-pointer
      -fno-sanitize-recover=all)
endif()

# Flags that every target of ours shares.
function(raftogram_target target)
  target_compile_options(${target} PRIVATE ${RAFTOGRAM_WARNINGS} ${RAFTOGRAM_SANITIZE_FLAGS})
  target_link_options(${target} PRIVATE ${RAFTOGRAM_SANITIZE_FLAGS})
  target_link_libraries(${target} PRIVATE raftogram_hardening)
  # CHECK prints __FILE__: a path inside the repository, not one of the machine that built it.
  target_compile_options(${target} PRIVATE -fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE RAFTOGRAM_VERSION="${PROJECT_VERSION}")
endfunction()

# raftogram_module(NAME [SOURCES …] [DEPS module…] [LIBS target…]): without SOURCES, every .c file of
# the folder.
function(raftogram_module name)
  cmake_parse_arguments(MODULE "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  if(NOT MODULE_SOURCES)
    file(GLOB MODULE_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
  endif()
  add_library(raftogram_${name} STATIC ${MODULE_SOURCES})
  raftogram_target(raftogram_${name})
  target_include_directories(raftogram_${name} PUBLIC ${CMAKE_SOURCE_DIR}/node)
  foreach(dep ${MODULE_DEPS})
    target_link_libraries(raftogram_${name} PUBLIC raftogram_${dep})
  endforeach()
  target_link_libraries(raftogram_${name} PUBLIC ${MODULE_LIBS})
endfunction()
