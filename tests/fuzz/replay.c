/* In place of libFuzzer's main where the build has none: runs the target over every file of the
 * directories that are named, so that what a corpus holds is tried in each build. */
#include "base/check.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUT_BYTES_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const char *path)
{
    FILE *file = fopen(path, "rbe");
    uint8_t *data = malloc(INPUT_BYTES_MAX);
    if (file == NULL || data == NULL) {
        perror(path);
        exit(1);
    }
    size_t size = fread(data, 1, INPUT_BYTES_MAX, file);
    CHECK(feof(file));
    fclose(file);
    /* Of just its size, so that a sanitizer sees the end. */
    uint8_t *input = malloc(size + (size == 0));
    CHECK(input != NULL);
    for (size_t i = 0; i < size; i++) {
        input[i] = data[i];
    }
    free(data);
    printf("%s\n", path);
    fflush(stdout);
    (void)LLVMFuzzerTestOneInput(input, size);
    free(input);
}

static int is_input(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        struct dirent **entries;
        int count = scandir(argv[i], &entries, is_input, alphasort);
        if (count < 0) {
            perror(argv[i]);
            return 1;
        }
        for (int k = 0; k < count; k++) {
            char path[4096];
            snprintf(path, sizeof(path), "%s/%s", argv[i], entries[k]->d_name);
            run(path);
            free(entries[k]);
        }
        free(entries);
        total += count;
    }
    printf("%d inputs\n", total);
    return total > 0 ? 0 : 1;
}
