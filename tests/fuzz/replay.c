#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * Runs a fuzz target over files, without libFuzzer: `replay-message FILE…`. For a finding, and for
 * the corpus under any compiler, sanitizer or valgrind.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_CAP = 64 * 1024 * 1024 };

static int replay(const char *path)
{
    uint8_t *data = malloc(FILE_CAP);
    FILE *file = fopen(path, "rb");
    if (!data || !file) {
        perror(path);
        free(data);
        return 1;
    }
    size_t size = fread(data, 1, FILE_CAP, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        failed |= replay(argv[i]);
    }
    printf("%d inputs\n", argc - 1);
    return failed;
}
