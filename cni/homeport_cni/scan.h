/*
 * A validating JSON scanner over bytes in memory, without a tree: what shim.c needs to read of a network configuration.
 *
 * A value is a span of the text. `skip_value` decides whether there is one (RFC 8259, UTF-8 checked); the other functions
 * take only spans that it accepted, and so check nothing again. Nothing is allocated and nothing recurses.
 */
#ifndef HOMEPORT_SCAN_H
#define HOMEPORT_SCAN_H

#include <stddef.h>
#include <string.h>

#define MAX_DEPTH 512

struct span {
    const char *at; /* NULL: there is no such value */
    const char *end;
};

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

static int is_digit(const char *p, const char *end)
{
    return p < end && *p >= '0' && *p <= '9';
}

/* The value of one hexadecimal digit, or -1. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four hexadecimal digits at p, or -1. */
static long hex4(const char *p, const char *end)
{
    long value = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The length of the well-formed UTF-8 sequence at p (Unicode, table 3-7), or 0. */
static int utf8_length(const char *p, const char *end)
{
    const unsigned char *u = (const unsigned char *)p;
    int length = u[0] < 0x80 ? 1 : u[0] < 0xc2 ? 0 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : u[0] < 0xf5 ? 4 : 0;
    if (length == 0 || end - p < length)
        return 0;
    for (int i = 1; i < length; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) || (u[0] == 0xf0 && u[1] < 0x90) ||
        (u[0] == 0xf4 && u[1] > 0x8f))
        return 0;
    return length;
}

/* Each skip_x returns the first byte behind the x at p, or NULL when there is none. */

static const char *skip_string(const char *p, const char *end)
{
    if (p == end || *p++ != '"')
        return NULL;
    while (p < end && *p != '"') {
        if ((unsigned char)*p < 0x20)
            return NULL;
        if (*p == '\\') {
            if (++p == end)
                return NULL;
            if (*p == 'u') {
                if (hex4(p + 1, end) < 0)
                    return NULL;
                p += 5;
            } else if (*p && strchr("\"\\/bfnrt", *p)) {
                p++;
            } else {
                return NULL;
            }
        } else {
            int length = utf8_length(p, end);
            if (length == 0)
                return NULL;
            p += length;
        }
    }
    return p < end ? p + 1 : NULL;
}

static const char *skip_number(const char *p, const char *end)
{
    if (p < end && *p == '-')
        p++;
    if (!is_digit(p, end))
        return NULL;
    if (*p == '0')
        p++;
    else
        while (is_digit(p, end))
            p++;
    if (p < end && *p == '.') {
        if (!is_digit(++p, end))
            return NULL;
        while (is_digit(p, end))
            p++;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        if (++p < end && (*p == '+' || *p == '-'))
            p++;
        if (!is_digit(p, end))
            return NULL;
        while (is_digit(p, end))
            p++;
    }
    return p;
}

static const char *skip_word(const char *p, const char *end, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(end - p) >= length && memcmp(p, word, length) == 0 ? p + length : NULL;
}

/* A member's name and its colon. */
static const char *skip_key(const char *p, const char *end)
{
    p = skip_string(skip_space(p, end), end);
    if (!p)
        return NULL;
    p = skip_space(p, end);
    return p < end && *p == ':' ? p + 1 : NULL;
}

static const char *skip_scalar(const char *p, const char *end)
{
    switch (*p) {
    case '"':
        return skip_string(p, end);
    case 't':
        return skip_word(p, end, "true");
    case 'f':
        return skip_word(p, end, "false");
    case 'n':
        return skip_word(p, end, "null");
    default:
        return skip_number(p, end);
    }
}

/* Not recursive: `closers` holds what ends each open object and array, so depth costs a byte and has a limit. */
static const char *skip_value(const char *p, const char *end)
{
    char closers[MAX_DEPTH];
    int depth = 0;
    for (;;) {
        p = skip_space(p, end);
        if (p == end)
            return NULL;
        if (*p == '{' || *p == '[') {
            if (depth == MAX_DEPTH)
                return NULL;
            closers[depth++] = *p == '{' ? '}' : ']';
            p = skip_space(p + 1, end);
            if (p == end)
                return NULL;
            if (*p != closers[depth - 1]) {
                if (closers[depth - 1] == '}' && !(p = skip_key(p, end)))
                    return NULL;
                continue; /* to its first value */
            }
        } else if (!(p = skip_scalar(p, end))) {
            return NULL;
        }
        /* A value ended at p, or the object or array opened last closes there. */
        for (;;) {
            if (depth == 0)
                return p;
            p = skip_space(p, end);
            if (p == end)
                return NULL;
            if (*p == closers[depth - 1]) {
                p++;
                depth--;
            } else {
                break;
            }
        }
        if (*p++ != ',')
            return NULL;
        if (closers[depth - 1] == '}' && !(p = skip_key(p, end)))
            return NULL;
    }
}

/* The string token as UTF-8 with a terminating zero. 0 when it does not fit, holds a zero, or half a surrogate pair. */
static int decode_string(struct span token, char *out, size_t size)
{
    const char *p = token.at + 1, *end = token.end - 1;
    size_t used = 0;
    while (p < end) {
        long c;
        if (*p != '\\') {
            int length = utf8_length(p, end);
            if (used + (size_t)length >= size)
                return 0;
            memcpy(out + used, p, (size_t)length);
            used += (size_t)length;
            p += length;
            continue;
        }
        p++;
        if (*p == 'u') {
            c = hex4(p + 1, end);
            p += 5;
            if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
                long low = hex4(p + 2, end);
                if (low < 0xdc00 || low > 0xdfff)
                    return 0;
                c = 0x10000 + (c - 0xd800) * 0x400 + (low - 0xdc00);
                p += 6;
            }
            if (c == 0 || (c >= 0xd800 && c < 0xe000))
                return 0;
        } else {
            const char *names = "bfnrt", *values = "\b\f\n\r\t", *name = strchr(names, *p);
            c = name ? values[name - names] : *p;
            p++;
        }
        if (used + 4 >= size)
            return 0;
        if (c < 0x80) {
            out[used++] = (char)c;
        } else if (c < 0x800) {
            out[used++] = (char)(0xc0 | c >> 6);
            out[used++] = (char)(0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
            out[used++] = (char)(0xe0 | c >> 12);
            out[used++] = (char)(0x80 | (c >> 6 & 0x3f));
            out[used++] = (char)(0x80 | (c & 0x3f));
        } else {
            out[used++] = (char)(0xf0 | c >> 18);
            out[used++] = (char)(0x80 | (c >> 12 & 0x3f));
            out[used++] = (char)(0x80 | (c >> 6 & 0x3f));
            out[used++] = (char)(0x80 | (c & 0x3f));
        }
    }
    out[used] = '\0';
    return 1;
}

static int is_object(struct span value)
{
    return value.at && *value.at == '{';
}

static int is_string(struct span value)
{
    return value.at && *value.at == '"';
}

/* Missing, null and "" are one in CNI: nothing is said. */
static int says_something(struct span value)
{
    return value.at && *value.at != 'n' && !(*value.at == '"' && value.end - value.at == 2);
}

/* The member of a valid object; the last one when the name stands there twice, as other readers take it. */
static struct span member(struct span object, const char *name)
{
    struct span found = {NULL, NULL};
    if (!is_object(object))
        return found;
    const char *p = skip_space(object.at + 1, object.end);
    while (*p != '}') {
        char text[64];
        struct span key = {p, skip_string(p, object.end)};
        struct span value;
        value.at = skip_space(skip_key(p, object.end), object.end);
        value.end = skip_value(value.at, object.end);
        if (decode_string(key, text, sizeof(text)) && strcmp(text, name) == 0)
            found = value;
        p = skip_space(value.end, object.end);
        if (*p == ',')
            p = skip_space(p + 1, object.end);
    }
    return found;
}

#endif
