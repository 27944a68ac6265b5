/* Gives scan.h documents to judge, many in one process: test_scan.py. In: 4 bytes of length and a document, repeated.
 * Out, for each: '0', or '1' and the member "k" as it stands there, and it as a decoded string; each 4 bytes of length
 * and its bytes, or the length -1. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "scan.h"

static void put(const char *at, size_t size)
{
    uint32_t length = at ? (uint32_t)size : UINT32_MAX;
    fwrite(&length, sizeof(length), 1, stdout);
    if (at)
        fwrite(at, 1, size, stdout);
}

int main(void)
{
    uint32_t size;
    while (fread(&size, sizeof(size), 1, stdin) == 1) {
        char *text = malloc(size); /* exactly: whoever reads on is found out by the sanitizer */
        if (fread(text, 1, size, stdin) != size)
            return 1;
        struct span document = {skip_space(text, text + size), NULL};
        document.end = skip_value(document.at, text + size);
        if (!document.end || skip_space(document.end, text + size) != text + size) {
            putchar('0');
        } else {
            char decoded[32];
            struct span value = member(document, "k");
            putchar('1');
            put(value.at, (size_t)(value.end - value.at));
            int is_text = is_string(value) && decode_string(value, decoded, sizeof(decoded));
            put(is_text ? decoded : NULL, is_text ? strlen(decoded) : 0);
        }
        fflush(stdout);
        free(text);
    }
    return 0;
}
