/* How fast the patterns of a file match the lines of another, and nothing else: vectorscan PATTERNS FILE */
#include <fcntl.h>
#include <hs/hs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATTERNS_MAX 256
#define PATTERN_BYTES_MAX 512

static int count(unsigned id, unsigned long long from, unsigned long long to, unsigned flags, void *matches)
{
    (void)id, (void)from, (void)to, (void)flags;
    ++*(unsigned long long *)matches;
    return 0;
}

int main(int arguments, char **argument)
{
    static char text[PATTERNS_MAX][PATTERN_BYTES_MAX];
    const char *patterns[PATTERNS_MAX];
    unsigned flags[PATTERNS_MAX], ids[PATTERNS_MAX], number = 0;
    FILE *file = arguments == 3 ? fopen(argument[1], "r") : NULL;
    int log = file ? open(argument[2], O_RDONLY) : -1;
    struct stat about;
    if (log < 0 || fstat(log, &about))
        return perror("usage: vectorscan PATTERNS FILE"), 2;
    while (number < PATTERNS_MAX && fgets(text[number], PATTERN_BYTES_MAX, file)) {
        text[number][strcspn(text[number], "\n")] = 0;
        patterns[number] = text[number];
        flags[number] = HS_FLAG_SINGLEMATCH;
        ids[number] = number;
        ++number;
    }
    hs_database_t *database;
    hs_compile_error_t *error;
    hs_scratch_t *scratch = NULL;
    if (hs_compile_multi(patterns, flags, ids, number, HS_MODE_BLOCK, NULL, &database, &error))
        return fprintf(stderr, "%s\n", error->message), 1;
    if (hs_alloc_scratch(database, &scratch))
        return 1;
    const char *line = mmap(NULL, about.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, log, 0);
    if (line == MAP_FAILED)
        return perror("mmap"), 1;
    const char *end = line + about.st_size;
    unsigned long long lines = 0, matches = 0;
    while (line < end) {
        const char *feed = memchr(line, '\n', end - line);
        if (!feed)
            feed = end;
        hs_scan(database, line, feed - line, 0, scratch, count, &matches);
        ++lines;
        line = feed + 1;
    }
    printf("%llu lines, %llu matches\n", lines, matches);
    return 0;
}
