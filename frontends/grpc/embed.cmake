# cmake -D INPUT=descriptors.bin -D OUTPUT=descriptor_set.c -P embed.cmake
include(${CMAKE_CURRENT_LIST_DIR}/../../cmake/embed_bytes.cmake)

embed_bytes(${INPUT} bytes size)
file(WRITE ${OUTPUT} "/* Generated: the encoded FileDescriptorSet of proto/. */
#include \"descriptors.h\"

static const unsigned char encoded[] = {
${bytes}
};

const struct bytes descriptor_set_of_proto = {encoded, sizeof(encoded)};
")
