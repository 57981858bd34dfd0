# embed_bytes(FILE BYTES SIZE): sets BYTES to the file's bytes as the elements of a C array, 16 in a
# line, each followed by a comma, and SIZE to their number. For scripts that embed files.
function(embed_bytes file bytes_name size_name)
  file(READ ${file} hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR size "${digits} / 2")
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE
         "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)"
         "\\1\n" bytes "${bytes}")
  set(${bytes_name} "${bytes}" PARENT_SCOPE)
  set(${size_name} ${size} PARENT_SCOPE)
endfunction()
