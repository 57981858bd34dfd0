/* Keys of tokens: reading, verifying and signing. */
#include "auth/token.h"

#include "base/errors.h"

#include <jansson.h>
#include <jwt.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ED25519_SIGNATURE_BYTES 64

struct token_key {
    EVP_PKEY *key;
    const char *algorithm;
    jwt_alg_t jwt_algorithm; /* JWT_ALG_NONE: libjwt does not have it, OpenSSL does the work */
    struct buf public_pem;
    struct buf private_pem; /* empty in a public key */
};

/* ---- reading ---- */

static bool is_p256(const EVP_PKEY *key)
{
    char group[64];
    size_t size;
    return EVP_PKEY_get_group_name(key, group, sizeof(group), &size) == 1 &&
           OBJ_txt2nid(group) == NID_X9_62_prime256v1;
}

static int choose_algorithm(struct token_key *key, const char **reason)
{
    switch (EVP_PKEY_get_base_id(key->key)) {
    case EVP_PKEY_EC:
        if (!is_p256(key->key)) {
            *reason = "is on another curve than P-256 (ES256)";
            return ERR_INVALID;
        }
        key->algorithm = "ES256";
        key->jwt_algorithm = JWT_ALG_ES256;
        return 0;
    case EVP_PKEY_RSA:
        if (EVP_PKEY_get_bits(key->key) < TOKEN_RSA_BITS_MIN) {
            *reason = "is an RSA key of less than 2048 bits";
            return ERR_INVALID;
        }
        key->algorithm = "RS256";
        key->jwt_algorithm = JWT_ALG_RS256;
        return 0;
    case EVP_PKEY_ED25519:
        key->algorithm = "EdDSA";
        key->jwt_algorithm = JWT_ALG_NONE;
        return 0;
    default:
        *reason = "is neither P-256 (ES256) nor RSA (RS256) nor Ed25519 (EdDSA)";
        return ERR_INVALID;
    }
}

/* Never asks at the terminal. */
static int give_no_password(char *out, int size, int is_writing, void *context)
{
    return -1;
}

static EVP_PKEY *read_pem(struct bytes pem, bool is_private)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.size);
    if (bio == NULL) {
        return NULL;
    }
    EVP_PKEY *key = is_private ? PEM_read_bio_PrivateKey(bio, NULL, give_no_password, NULL)
                               : PEM_read_bio_PUBKEY(bio, NULL, give_no_password, NULL);
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

/* NUL-terminated behind its end. */
static int write_pem(EVP_PKEY *key, bool is_private, struct buf *out)
{
    char *data = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    int is_done = 0;
    if (bio != NULL) {
        is_done = is_private ? PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)
                             : PEM_write_bio_PUBKEY(bio, key);
    }
    if (is_done == 1) {
        long size = BIO_get_mem_data(bio, &data);
        buf_append(out, data, size > 0 ? (size_t)size : 0);
        (void)buf_text(out);
        if (is_private && size > 0) {
            OPENSSL_cleanse(data, (size_t)size);
        }
    }
    BIO_free(bio);
    ERR_clear_error();
    return is_done == 1 && !buf_failed(out) ? 0 : ERR_NOMEM;
}

static bool mentions(struct bytes pem, const char *what)
{
    return pem.size > 0 && memmem(pem.data, pem.size, what, strlen(what)) != NULL;
}

static const char *explain_pem(struct bytes pem, bool is_private)
{
    if (!is_private && mentions(pem, "PRIVATE KEY-----")) {
        return "is a private key; nodes need the public one: openssl pkey -pubout";
    }
    if (!is_private && mentions(pem, "BEGIN CERTIFICATE-----")) {
        return "is a certificate; write its public key: openssl x509 -noout -pubkey";
    }
    if (is_private && mentions(pem, "ENCRYPTED")) {
        return "is encrypted; write it without a password: openssl pkey";
    }
    return is_private ? "is not a PEM file with a PRIVATE KEY"
                      : "is not a PEM file with a PUBLIC KEY";
}

static int read_key(struct bytes pem, bool is_private, struct token_key **out, const char **reason)
{
    if (pem.size > TOKEN_KEY_BYTES_MAX) {
        *reason = "is larger than 16 KiB";
        return ERR_INVALID;
    }
    struct token_key *key = calloc(1, sizeof(*key));
    if (key == NULL) {
        return ERR_NOMEM;
    }
    int rc = ERR_INVALID;
    if (is_private || !mentions(pem, "PRIVATE KEY-----")) {
        key->key = read_pem(pem, is_private);
    }
    if (key->key == NULL) {
        *reason = explain_pem(pem, is_private);
        goto destroy_key;
    }
    rc = choose_algorithm(key, reason);
    if (rc != 0) {
        goto destroy_key;
    }
    *reason = "out of memory";
    rc = write_pem(key->key, false, &key->public_pem);
    if (rc == 0 && is_private) {
        rc = write_pem(key->key, true, &key->private_pem);
    }
    if (rc != 0) {
        goto destroy_key;
    }
    *out = key;
    return 0;
destroy_key:
    token_key_destroy(key);
    return rc;
}

int token_key_read_public(struct bytes pem, struct token_key **out, const char **reason)
{
    return read_key(pem, false, out, reason);
}

int token_key_read_private(struct bytes pem, struct token_key **out, const char **reason)
{
    return read_key(pem, true, out, reason);
}

void token_key_destroy(struct token_key *key)
{
    if (key == NULL) {
        return;
    }
    if (key->private_pem.size > 0) {
        OPENSSL_cleanse(key->private_pem.data, key->private_pem.size);
    }
    EVP_PKEY_free(key->key);
    buf_finish(&key->public_pem);
    buf_finish(&key->private_pem);
    free(key);
}

const char *token_key_algorithm(const struct token_key *key)
{
    return key->algorithm;
}

struct bytes token_key_public_pem(const struct token_key *key)
{
    return buf_bytes(&key->public_pem);
}

/* ---- verifying ---- */

static bool verify_by_libjwt(const struct token *token, const struct token_key *key)
{
    jwt_t *jwt = NULL;
    int error = jwt_decode(&jwt, token->text, key->public_pem.data, (int)key->public_pem.size);
    /* jwt_decode() would take whatever the header names; the caller has compared that, and this is
     * the same comparison with what the library understood. */
    bool is_right = error == 0 && jwt != NULL && jwt_get_alg(jwt) == key->jwt_algorithm;
    if (error == 0) {
        jwt_free(jwt);
    }
    return is_right;
}

static bool verify_by_openssl(const struct token *token, const struct token_key *key)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_right = context != NULL && token->signature_size == ED25519_SIGNATURE_BYTES &&
                    EVP_DigestVerifyInit(context, NULL, NULL, NULL, key->key) == 1 &&
                    EVP_DigestVerify(context, token->signature, token->signature_size,
                                     (const unsigned char *)token->text, token->signed_size) == 1;
    EVP_MD_CTX_free(context);
    return is_right;
}

/* libjwt takes no other type. Said by name, as the reason is not a wrong signature. */
static bool has_usual_type(const struct token *token)
{
    const char *type = json_string_value(json_object_get(token->header, "typ"));
    return type == NULL || strcasecmp(type, "JWT") == 0;
}

int token_verify(const struct token *token, const struct token_key *key, const char **reason)
{
    if (strcmp(token->algorithm, key->algorithm) != 0) {
        *reason = "the algorithm is not that of the key";
        return ERR_INVALID;
    }
    if (key->jwt_algorithm != JWT_ALG_NONE && !has_usual_type(token)) {
        *reason = "the header's typ is not JWT";
        return ERR_INVALID;
    }
    bool is_right = key->jwt_algorithm != JWT_ALG_NONE ? verify_by_libjwt(token, key)
                                                       : verify_by_openssl(token, key);
    ERR_clear_error();
    if (!is_right) {
        *reason = "the signature is wrong";
        return ERR_INVALID;
    }
    return 0;
}

/* ---- signing ---- */

static int sign_by_libjwt(const struct token_key *key, const char *kid, const char *claims,
                          struct buf *out)
{
    jwt_t *jwt = NULL;
    if (jwt_new(&jwt) != 0) {
        return ERR_NOMEM;
    }
    int rc = ERR_INVALID;
    char *text = NULL;
    if (jwt_set_alg(jwt, key->jwt_algorithm, key->private_pem.data, (int)key->private_pem.size) ==
            0 &&
        (kid == NULL || jwt_add_header(jwt, "kid", kid) == 0) &&
        jwt_add_grants_json(jwt, claims) == 0) {
        text = jwt_encode_str(jwt);
    }
    if (text != NULL) {
        buf_append_text(out, text);
        rc = buf_failed(out) ? ERR_NOMEM : 0;
        free(text);
    }
    jwt_free(jwt);
    return rc;
}

static void append_base64(struct buf *out, struct bytes bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const uint8_t *data = bytes.data;
    uint32_t bits = 0;
    unsigned count = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        bits = bits << 8 | data[i];
        count += 8;
        while (count >= 6) {
            count -= 6;
            buf_append_byte(out, (uint8_t)digits[bits >> count & 63]);
        }
    }
    if (count > 0) {
        buf_append_byte(out, (uint8_t)digits[bits << (6 - count) & 63]);
    }
}

static int sign_by_openssl(const struct token_key *key, const char *kid, const char *claims,
                           struct buf *out)
{
    json_t *header = json_pack("{ss ss ss*}", "alg", key->algorithm, "typ", "JWT", "kid", kid);
    char *header_text = header == NULL ? NULL : json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (header_text == NULL) {
        return ERR_NOMEM;
    }
    size_t start = out->size;
    append_base64(out, bytes_of_text(header_text));
    free(header_text);
    buf_append_byte(out, '.');
    append_base64(out, bytes_of_text(claims));
    if (buf_failed(out)) {
        return ERR_NOMEM;
    }
    uint8_t signature[ED25519_SIGNATURE_BYTES];
    size_t size = sizeof(signature);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_signed =
        context != NULL && EVP_DigestSignInit(context, NULL, NULL, NULL, key->key) == 1 &&
        EVP_DigestSign(context, signature, &size, out->data + start, out->size - start) == 1;
    EVP_MD_CTX_free(context);
    if (!is_signed) {
        buf_cut(out, start);
        return ERR_INVALID;
    }
    buf_append_byte(out, '.');
    append_base64(out, (struct bytes){signature, size});
    return buf_failed(out) ? ERR_NOMEM : 0;
}

int token_sign(const struct token_key *key, const char *kid, const char *claims, struct buf *out)
{
    if (key->private_pem.size == 0) {
        return ERR_INVALID;
    }
    int rc = key->jwt_algorithm != JWT_ALG_NONE ? sign_by_libjwt(key, kid, claims, out)
                                                : sign_by_openssl(key, kid, claims, out);
    ERR_clear_error();
    return rc;
}
