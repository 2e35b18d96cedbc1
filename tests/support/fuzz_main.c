/* Runs a libFuzzer target over files and folders given as arguments, and over a few thousand cheap mutations of each,
 * so that the corpus is replayed in every plain test run with any compiler. */
#include "base/random.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_INPUT_BYTES_MAX ((size_t)1 << 20)
#define FUZZ_MUTATIONS       400

static unsigned long fuzz_runs;

static void fuzz_one(const uint8_t *data, size_t size)
{
        /* An exact-size heap copy: the address sanitizer and valgrind then see every read past the end. */
        uint8_t *copy = calloc(1, size == 0 ? 1 : size);
        if (copy == NULL)
                abort();
        if (size > 0)
                memcpy(copy, data, size);
        (void)LLVMFuzzerTestOneInput(copy, size); /* always 0 by libFuzzer's contract */
        free(copy);
        fuzz_runs++;
}

static void fuzz_file(const char *path)
{
        static uint8_t input[FUZZ_INPUT_BYTES_MAX], mutant[FUZZ_INPUT_BYTES_MAX];
        FILE *file = fopen(path, "rb");
        if (file == NULL) {
                perror(path);
                exit(1);
        }
        size_t size = fread(input, 1, sizeof(input), file);
        (void)fclose(file); /* read only */
        fuzz_one(input, size);
        struct random_state random;
        random_init(&random, 1 + size);
        for (int round = 0; round < FUZZ_MUTATIONS && size > 0; round++) {
                memcpy(mutant, input, size);
                uint64_t edits = 1 + random_below(&random, 4);
                for (uint64_t i = 0; i < edits; i++)
                        mutant[random_below(&random, size)] = (uint8_t)random_u64(&random);
                fuzz_one(mutant, round % 3 == 0 ? (size_t)random_below(&random, size) : size);
        }
}

int main(int argc, char **argv)
{
        fuzz_one((const uint8_t *)"", 0);
        for (int i = 1; i < argc; i++) {
                struct stat status;
                if (stat(argv[i], &status) < 0) {
                        perror(argv[i]);
                        return 1;
                }
                if (!S_ISDIR(status.st_mode)) {
                        fuzz_file(argv[i]);
                        continue;
                }
                DIR *directory = opendir(argv[i]);
                if (directory == NULL) {
                        perror(argv[i]);
                        return 1;
                }
                for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
                        char path[4096];
                        if (entry->d_name[0] == '.')
                                continue;
                        if (snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name) < (int)sizeof(path))
                                fuzz_file(path);
                }
                (void)closedir(directory); /* read only */
        }
        printf("%lu inputs\n", fuzz_runs);
        return fuzz_runs > 1 ? 0 : 1;
}
