# cmake -D INPUT=descriptors.bin -D OUTPUT=descriptor_set.c -P embed.cmake
file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes ${hex})
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)"
       "\\1\n" bytes ${bytes})
file(WRITE ${OUTPUT} "/* Generated: the encoded FileDescriptorSet of proto/. */
#include \"descriptors.h\"

static const unsigned char encoded[] = {
${bytes}
};

const struct bytes descriptor_set_of_proto = {encoded, sizeof(encoded)};
")
