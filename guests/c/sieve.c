/*
 * The primes below a number, by the sieve of Eratosthenes: a plain C program that knows nothing
 * of HackBrain and is built for WASI preview 1, as existing toolchains do.
 *
 *     sieve [LIMIT [CODE]]
 *
 * LIMIT is a number from 0 to 100000000; without it, or where it is "-", it is read from the
 * file /in/limit. The primes go to /out/primes.txt, one a line, and their number to standard
 * output. The program ends by exit(CODE), 0 to 125, which becomes a call of proc_exit also for 0.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HIGHEST_LIMIT 100000000UL

/* Ends with a message; nothing is to be tidied up. */
static void fail(const char *what, const char *why)
{
    fprintf(stderr, "sieve: %s: %s\n", what, why);
    exit(1);
}

static unsigned long number(const char *text, unsigned long highest, const char *expected)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || text[0] == '-' || strspn(end, " \r\n") != strlen(end) || errno != 0 ||
        value > highest)
        fail(text, expected);
    return value;
}

static unsigned long limit_from_input(void)
{
    char line[64];
    FILE *file = fopen("/in/limit", "r");
    if (file == NULL)
        fail("/in/limit", strerror(errno));
    if (fgets(line, sizeof line, file) == NULL)
        fail("/in/limit", "it is empty; a number was expected");
    fclose(file);
    return number(line, HIGHEST_LIMIT, "/in/limit must hold a number from 0 to 100000000");
}

int main(int argc, char **argv)
{
    if (argc > 3)
        fail(argv[3], "at most two arguments were expected: sieve [LIMIT [CODE]]");
    unsigned long limit = argc > 1 && strcmp(argv[1], "-") != 0
                              ? number(argv[1], HIGHEST_LIMIT, "the limit must be a number from 0 to 100000000")
                              : limit_from_input();
    int code = argc > 2 ? (int)number(argv[2], 125, "the exit code must be a number from 0 to 125") : 0;

    char *composite = calloc(limit + 1, 1);
    if (composite == NULL)
        fail("memory for the sieve", strerror(errno));
    FILE *out = fopen("/out/primes.txt", "w");
    if (out == NULL)
        fail("/out/primes.txt", strerror(errno));

    unsigned long primes = 0;
    for (unsigned long candidate = 2; candidate < limit; candidate++) {
        if (composite[candidate])
            continue;
        primes++;
        if (fprintf(out, "%lu\n", candidate) < 0)
            fail("/out/primes.txt", strerror(errno));
        /* Smaller multiples have a smaller factor; below the root the square cannot overflow. */
        if (candidate <= limit / candidate)
            for (unsigned long multiple = candidate * candidate; multiple < limit; multiple += candidate)
                composite[multiple] = 1;
    }
    if (fclose(out) != 0)
        fail("/out/primes.txt", strerror(errno));
    free(composite);
    printf("%lu primes below %lu\n", primes, limit);
    exit(code);
}
