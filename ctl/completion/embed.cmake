# cmake -D FOLDER=ctl/completion -D OUTPUT=completion_scripts.c -P embed.cmake
# The templates of the shells' completions as strings.
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/embed_bytes.cmake)

set(rows "")
foreach(shell bash zsh fish)
  embed_bytes(${FOLDER}/raftogramctl.${shell} bytes size)
  string(APPEND arrays "static const char ${shell}[] = {\n${bytes}0};\n")
  string(APPEND rows "    {\"${shell}\", ${shell}},\n")
endforeach()
file(WRITE ${OUTPUT} "/* Generated: the files of ctl/completion/. */
#include \"completion_scripts.h\"

${arrays}
const struct completion_script completion_scripts[] = {
${rows}    {NULL, NULL},
};
")
