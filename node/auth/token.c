/* JSON Web Tokens: parsing, keys, signatures. */
#include "auth/token.h"

#include "base/errors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Returns 64 for what is no digit. */
static unsigned digit_of(char c, bool is_standard)
{
    if (c >= 'A' && c <= 'Z') {
        return (unsigned)(c - 'A');
    }
    if (c >= 'a' && c <= 'z') {
        return (unsigned)(c - 'a') + 26;
    }
    if (c >= '0' && c <= '9') {
        return (unsigned)(c - '0') + 52;
    }
    if (c == (is_standard ? '+' : '-')) {
        return 62;
    }
    if (c == (is_standard ? '/' : '_')) {
        return 63;
    }
    return 64;
}

/* Drops the padding of standard base64; false: there is too little or too much. */
static bool cut_padding(struct bytes *text)
{
    const char *data = text->data;
    if (text->size % 4 != 0) {
        return false;
    }
    for (int i = 0; i < 2 && text->size > 0 && data[text->size - 1] == '='; i++) {
        text->size--;
    }
    return true;
}

int token_decode_base64(struct bytes text, bool is_standard, struct buf *out)
{
    if ((is_standard && !cut_padding(&text)) || text.size % 4 == 1) {
        return ERR_INVALID;
    }
    const char *data = text.data;
    uint32_t bits = 0;
    unsigned count = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned digit = digit_of(data[i], is_standard);
        if (digit == 64) {
            return ERR_INVALID;
        }
        bits = bits << 6 | digit;
        count += 6;
        if (count >= 8) {
            count -= 8;
            buf_append_byte(out, (uint8_t)(bits >> count));
        }
    }
    /* One encoding for each value: the bits that are left over are 0. */
    if ((bits & ((1u << count) - 1)) != 0) {
        return ERR_INVALID;
    }
    return buf_failed(out) ? ERR_NOMEM : 0;
}

/* One part, which must be a JSON object. */
static int read_object(struct bytes text, struct json_t **out)
{
    struct buf decoded = {0};
    int rc = token_decode_base64(text, false, &decoded);
    if (rc == 0) {
        json_error_t fault;
        json_t *json =
            json_loadb((const char *)decoded.data, decoded.size, JSON_REJECT_DUPLICATES, &fault);
        if (json != NULL && json_is_object(json)) {
            *out = json;
        } else {
            bool is_memory = json == NULL && json_error_code(&fault) == json_error_out_of_memory;
            rc = is_memory ? ERR_NOMEM : ERR_INVALID;
            json_decref(json);
        }
    }
    buf_finish(&decoded);
    return rc;
}

static int read_header(struct token *token, struct bytes text, const char **reason)
{
    *reason = "the header is not base64url of a JSON object";
    int rc = read_object(text, &token->header);
    if (rc != 0) {
        return rc;
    }
    token->algorithm = json_string_value(json_object_get(token->header, "alg"));
    token->kid = json_string_value(json_object_get(token->header, "kid"));
    if (token->algorithm == NULL) {
        *reason = "the header names no algorithm";
        return ERR_INVALID;
    }
    /* RFC 7515, 4.1.11: what a token declares critical and we do not know makes it invalid. */
    if (json_object_get(token->header, "crit") != NULL) {
        *reason = "the header has critical extensions, which are not supported";
        return ERR_INVALID;
    }
    return 0;
}

static int read_parts(struct token *token, const char **reason)
{
    const char *first = memchr(token->text, '.', token->size);
    const char *second = first == NULL ? NULL : strchr(first + 1, '.');
    if (second == NULL || strchr(second + 1, '.') != NULL) {
        *reason = "is not three parts with dots between them";
        return ERR_INVALID;
    }
    token->signed_size = (size_t)(second - token->text);
    int rc = read_header(token, (struct bytes){token->text, (size_t)(first - token->text)}, reason);
    if (rc != 0) {
        return rc;
    }
    *reason = "the claims are not base64url of a JSON object";
    rc = read_object((struct bytes){first + 1, (size_t)(second - first - 1)}, &token->claims);
    if (rc != 0) {
        return rc;
    }
    *reason = "the signature is not base64url";
    struct buf signature = {0};
    struct bytes text = {second + 1, token->size - token->signed_size - 1};
    rc = token_decode_base64(text, false, &signature);
    token->signature = signature.data;
    token->signature_size = signature.size;
    return rc;
}

int token_read(struct bytes text, struct token **out, const char **reason)
{
    *reason = "is larger than 8 KiB";
    if (text.size > TOKEN_BYTES_MAX) {
        return ERR_INVALID;
    }
    *reason = "is empty or has a NUL";
    if (text.size == 0 || memchr(text.data, '\0', text.size) != NULL) {
        return ERR_INVALID;
    }
    struct token *token = calloc(1, sizeof(*token));
    char *copy = strndup(text.data, text.size);
    if (token == NULL || copy == NULL) {
        free(token);
        free(copy);
        return ERR_NOMEM;
    }
    token->text = copy;
    token->size = text.size;
    int rc = read_parts(token, reason);
    if (rc != 0) {
        token_destroy(token);
        return rc;
    }
    *out = token;
    return 0;
}

void token_destroy(struct token *token)
{
    if (token == NULL) {
        return;
    }
    json_decref(token->header);
    json_decref(token->claims);
    free(token->signature);
    free(token->text);
    free(token);
}

char *token_header_text(const struct token *token)
{
    return json_dumps(token->header, JSON_COMPACT);
}

char *token_claims_text(const struct token *token)
{
    return json_dumps(token->claims, JSON_COMPACT);
}
