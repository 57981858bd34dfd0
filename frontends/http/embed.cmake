# cmake -D ROOT=web -D OUTPUT=embedded_files.c -P embed.cmake
# The files of a folder as arrays of bytes. Hidden files, tests and notes stay out.
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/embed_bytes.cmake)

file(GLOB_RECURSE files RELATIVE ${ROOT} ${ROOT}/*)
list(SORT files)
set(arrays "")
set(rows "")
set(number 0)
foreach(path IN LISTS files)
  if(path MATCHES "(^|/)[.]" OR NOT path MATCHES
     "[.](html|js|mjs|css|svg|png|ico|json|webmanifest|woff2|txt)$")
    continue()
  endif()
  embed_bytes(${ROOT}/${path} bytes size)
  # The zero keeps an empty file's array from being empty.
  string(APPEND arrays "static const unsigned char file_${number}[] = {\n${bytes}0};\n")
  string(APPEND rows "    {\"/${path}\", file_${number}, ${size}},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUTPUT} "/* Generated: the files of web/. */
#include \"static_files.h\"

${arrays}
const struct static_file embedded_files[] = {
${rows}    {NULL, NULL, 0},
};
")
