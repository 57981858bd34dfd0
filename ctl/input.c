/* Reads stdin. */
#include "input.h"

#include "complain.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int input_read(struct buf *out, const char *what)
{
    buf_init(out, INPUT_BYTES_MAX);
    char chunk[65536];
    for (;;) {
        ssize_t got = read(STDIN_FILENO, chunk, sizeof(chunk));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            complain("cannot read stdin: %s", strerror(errno));
            return EXIT_REFUSED;
        }
        if (got == 0) {
            return 0;
        }
        buf_append(out, chunk, (size_t)got);
        if (buf_failed(out)) {
            complain("stdin is larger than %d bytes, the most that %s can have", INPUT_BYTES_MAX,
                     what);
            return EXIT_REFUSED;
        }
    }
}
