# cmake -D FOLDER=ctl/completion -D OUTPUT=completion_scripts.c -P embed.cmake
# The templates of the shells' completions as strings.
set(rows "")
foreach(shell bash zsh fish)
  file(READ ${FOLDER}/raftogramctl.${shell} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE
         "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)"
         "\\1\n" bytes "${bytes}")
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
