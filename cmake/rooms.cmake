# A room is a folder with one static library: raftogram_<name>. Its DEPS are the only rooms that it
# may include (tests/integration/check_layers.py holds the rule).

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
  # CHECK prints __FILE__: a path inside the repository, not one of the machine that built it.
  target_compile_options(${target} PRIVATE -fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE RAFTOGRAM_VERSION="${PROJECT_VERSION}")
endfunction()

# raftogram_room(NAME [SOURCES …] [DEPS room…] [LIBS target…]); without SOURCES every .c of the folder.
function(raftogram_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  if(NOT ROOM_SOURCES)
    file(GLOB ROOM_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
  endif()
  add_library(raftogram_${name} STATIC ${ROOM_SOURCES})
  raftogram_target(raftogram_${name})
  target_include_directories(raftogram_${name} PUBLIC ${CMAKE_SOURCE_DIR}/node)
  foreach(dep ${ROOM_DEPS})
    target_link_libraries(raftogram_${name} PUBLIC raftogram_${dep})
  endforeach()
  target_link_libraries(raftogram_${name} PUBLIC ${ROOM_LIBS})
endfunction()
