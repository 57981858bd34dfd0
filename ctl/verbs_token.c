/* The verb token: makes and reads tokens for a PEM key. It asks no cluster. */
#include "auth/secret_file.h"
#include "auth/token.h"
#include "base/clock.h"
#include "base/errors.h"
#include "complain.h"
#include "input.h"
#include "output.h"
#include "verbs.h"

#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AUDIENCE_DEFAULT "raftogram"
#define TTL_MS_DEFAULT (60 * 60 * 1000)
#define SUBJECT_BYTES_MAX 256

/* What only `new` has a use for. */
#define OPTIONS_OF_NEW (OPTION_ROLES | OPTION_AUD | OPTION_ISS | OPTION_KID | OPTION_TTL)

/* ---- new ---- */

static int read_private_key(const char *path, struct token_key **out)
{
    char error[PATH_MAX + 512];
    struct buf pem = {0};
    const char *reason = "out of memory";
    int rc = secret_file_read(path, TOKEN_KEY_BYTES_MAX, &pem, error, sizeof(error));
    if (rc != 0) {
        complain("%s", error);
    } else {
        rc = token_key_read_private(buf_bytes(&pem), out, &reason);
        if (rc != 0) {
            complain("%s: %s", path, reason);
        }
    }
    buf_finish(&pem);
    return rc == 0 ? 0 : EXIT_REFUSED;
}

/* The name of the file without its folder and without .pem: as the nodes name the public key. */
static char *kid_of_path(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *kid = strdup(slash != NULL ? slash + 1 : path);
    size_t size = kid == NULL ? 0 : strlen(kid);
    if (size > 4 && strcmp(kid + size - 4, ".pem") == 0) {
        kid[size - 4] = '\0';
    }
    return kid;
}

/* NULL without memory. */
static json_t *list_roles(const char *roles)
{
    json_t *list = json_array();
    while (list != NULL && roles != NULL && *roles != '\0') {
        size_t size = strcspn(roles, ",");
        if (size > 0 && json_array_append_new(list, json_stringn(roles, size)) != 0) {
            json_decref(list);
            return NULL;
        }
        roles += size + (roles[size] == ',');
    }
    return list;
}

/* NULL without memory, or for what is not UTF-8. */
static char *make_claims(const struct arguments *arguments, int64_t now_s, int64_t expiry_s)
{
    const char *audience = arguments->audience != NULL ? arguments->audience : AUDIENCE_DEFAULT;
    json_t *claims =
        json_pack("{ss ss* ss* sI sI so}", "sub", arguments->operands[1], "iss", arguments->issuer,
                  "aud", *audience == '\0' ? NULL : audience, "iat", (json_int_t)now_s, "exp",
                  (json_int_t)expiry_s, "roles", list_roles(arguments->roles));
    char *text = claims == NULL ? NULL : json_dumps(claims, JSON_COMPACT);
    json_decref(claims);
    return text;
}

static void print_token(const struct arguments *arguments, struct buf *token, const char *kid,
                        int64_t expiry_s)
{
    if (!arguments->is_json) {
        puts(buf_text(token));
        return;
    }
    json_t *json =
        json_pack("{ss ss ss}", "token", buf_text(token), "kid", kid, "expiresUnixMs", "");
    char number[32];
    snprintf(number, sizeof(number), "%" PRId64, expiry_s * 1000);
    json_object_set_new(json, "expiresUnixMs", json_string(number));
    char *text = json_dumps(json, JSON_COMPACT);
    if (text != NULL) {
        output_json_text(text);
        putchar('\n');
    }
    free(text);
    json_decref(json);
}

static int make_token(const struct arguments *arguments, const struct token_key *key,
                      const char *kid)
{
    uint64_t ttl_ms = arguments->ttl_ms != 0 ? arguments->ttl_ms : TTL_MS_DEFAULT;
    int64_t now_s = clock_wall_ms(clock_system()) / 1000;
    int64_t expiry_s = now_s + (int64_t)((ttl_ms + 999) / 1000);
    char *claims = make_claims(arguments, now_s, expiry_s);
    if (claims == NULL) {
        complain("the token's values are not UTF-8");
        return EXIT_USAGE;
    }
    struct buf token = {0};
    int rc = token_sign(key, kid, claims, &token);
    free(claims);
    if (rc == 0 && token.size > TOKEN_BYTES_MAX) {
        complain("the token would be larger than %d bytes, which nodes refuse", TOKEN_BYTES_MAX);
        rc = ERR_FULL;
    } else if (rc != 0) {
        complain("cannot sign: %s", error_text(rc));
    } else {
        print_token(arguments, &token, kid, expiry_s);
    }
    buf_finish(&token);
    return rc == 0 ? EXIT_DONE : EXIT_REFUSED;
}

static int run_new(const struct arguments *arguments)
{
    const char *subject = arguments->operand_count > 1 ? arguments->operands[1] : "";
    if (*subject == '\0' || arguments->key == NULL) {
        complain("token new wants %s; see raftogramctl token -h",
                 *subject == '\0' ? "a subject" : "-key FILE, a private key");
        return EXIT_USAGE;
    }
    if (strlen(subject) > SUBJECT_BYTES_MAX) {
        complain("the subject is longer than %d bytes", SUBJECT_BYTES_MAX);
        return EXIT_USAGE;
    }
    struct token_key *key;
    int code = read_private_key(arguments->key, &key);
    if (code != 0) {
        return code;
    }
    char *kid = arguments->kid != NULL ? strdup(arguments->kid) : kid_of_path(arguments->key);
    if (kid == NULL) {
        complain("out of memory");
        code = EXIT_REFUSED;
    } else {
        code = make_token(arguments, key, kid);
    }
    free(kid);
    token_key_destroy(key);
    return code;
}

/* ---- inspect ---- */

static int read_file(const char *path, size_t max_bytes, struct buf *out)
{
    char piece[4096];
    FILE *file = fopen(path, "re");
    size_t size = 1;
    buf_init(out, max_bytes);
    while (file != NULL && size > 0) {
        size = fread(piece, 1, sizeof(piece), file);
        buf_append(out, piece, size);
    }
    bool is_read = file != NULL && ferror(file) == 0 && !buf_failed(out);
    if (!is_read) {
        complain("%s: cannot be read, or is too large", path);
    }
    if (file != NULL) {
        fclose(file);
    }
    return is_read ? 0 : EXIT_REFUSED;
}

static int read_token(const struct arguments *arguments, struct token **out)
{
    struct buf text = {0};
    const char *path = arguments->operand_count > 1 ? arguments->operands[1] : "-";
    int code = strcmp(path, "-") == 0 ? input_read(&text, "a token")
                                      : read_file(path, 2 * TOKEN_BYTES_MAX, &text);
    if (code == 0) {
        struct bytes token = buf_bytes(&text);
        const char *data = token.data;
        while (token.size > 0 && isspace((unsigned char)data[token.size - 1])) {
            token.size--;
        }
        const char *reason = "out of memory";
        if (token_read(token, out, &reason) != 0) {
            complain("the token %s", reason);
            code = EXIT_REFUSED;
        }
    }
    buf_finish(&text);
    return code;
}

/* `*result` becomes what is to be printed. */
static int check_signature(const struct arguments *arguments, const struct token *token,
                           const char **result)
{
    *result = "not checked (no -key)";
    if (arguments->key == NULL) {
        return 0;
    }
    struct buf pem = {0};
    struct token_key *key = NULL;
    const char *reason = "out of memory";
    int code = read_file(arguments->key, TOKEN_KEY_BYTES_MAX, &pem);
    if (code == 0 && token_key_read_public(buf_bytes(&pem), &key, &reason) != 0) {
        complain("%s: %s", arguments->key, reason);
        code = EXIT_REFUSED;
    }
    if (code == 0) {
        *result = token_verify(token, key, &reason) == 0 ? "valid" : reason;
    }
    token_key_destroy(key);
    buf_finish(&pem);
    return code;
}

static void add_row(struct table *table, const char *name, const char *text)
{
    table_add_text(table, name);
    table_add_text(table, text);
}

static void add_time(struct table *table, const json_t *claims, const char *name, int64_t now_s)
{
    const json_t *value = json_object_get(claims, name);
    double seconds = json_number_value(value);
    if (!json_is_number(value) || seconds < 0 || seconds > 253402300799.0) {
        return;
    }
    time_t at = (time_t)seconds;
    struct tm parts;
    char text[96];
    size_t size = gmtime_r(&at, &parts) == NULL
                      ? 0
                      : strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    int64_t left = (int64_t)at - now_s;
    snprintf(text + size, sizeof(text) - size,
             left < 0 ? ", %" PRId64 " s ago" : ", in %" PRId64 " s", left < 0 ? -left : left);
    add_row(table, name, text);
}

static void print_table(const struct token *token, const char *signature)
{
    static const char *const headers[] = {"FIELD", "VALUE"};
    struct table table = {.headers = headers, .columns = 2};
    int64_t now_s = clock_wall_ms(clock_system()) / 1000;
    add_row(&table, "alg", token->algorithm);
    add_row(&table, "kid", token->kid == NULL ? "" : token->kid);
    const char *name;
    json_t *value;
    json_object_foreach(token->claims, name, value)
    {
        if (strcmp(name, "exp") == 0 || strcmp(name, "iat") == 0 || strcmp(name, "nbf") == 0) {
            add_time(&table, token->claims, name, now_s);
        } else if (json_is_string(value)) {
            add_row(&table, name, json_string_value(value));
        } else {
            char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
            add_row(&table, name, text == NULL ? "" : text);
            free(text);
        }
    }
    add_row(&table, "signature", signature);
    table_print(&table);
    table_finish(&table);
}

static void print_json(const struct token *token, const char *signature)
{
    json_t *json = json_pack("{sO sO ss}", "header", token->header, "claims", token->claims,
                             "signature", signature);
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    if (text != NULL) {
        output_json_text(text);
        putchar('\n');
    }
    free(text);
    json_decref(json);
}

static int run_inspect(const struct arguments *arguments)
{
    unsigned excess = arguments->options & OPTIONS_OF_NEW;
    if (excess != 0) {
        complain("token inspect does not take -%s; see raftogramctl token -h",
                 flag_of_options(excess)->name);
        return EXIT_USAGE;
    }
    struct token *token = NULL;
    const char *signature;
    int code = read_token(arguments, &token);
    if (code == 0) {
        code = check_signature(arguments, token, &signature);
    }
    if (code == 0) {
        (arguments->is_json ? print_json : print_table)(token, signature);
        bool is_wrong = arguments->key != NULL && strcmp(signature, "valid") != 0;
        code = is_wrong ? EXIT_REFUSED : EXIT_DONE;
    }
    token_destroy(token);
    return code;
}

static int run_token(struct cluster *cluster, const struct arguments *arguments)
{
    const char *what = arguments->operands[0];
    if (strcmp(what, "new") == 0) {
        return run_new(arguments);
    }
    if (strcmp(what, "inspect") == 0) {
        return run_inspect(arguments);
    }
    complain("token is followed by new or inspect, not by \"%s\"; see raftogramctl token -h", what);
    return EXIT_USAGE;
}

const struct verb verb_token = {
    .name = "token",
    .synopsis =
        "new SUBJECT [-key K] [-roles R] [-aud A] [-iss I] [-kid K] [-ttl D] | inspect FILE|-",
    .summary = "Makes a token with a private key, or reads one",
    .help =
        "new prints a token for SUBJECT, signed with the private key in the PEM file of -key.\n"
        "  -key FILE    P-256 (ES256), RSA (RS256) or Ed25519 (EdDSA); others must not read it\n"
        "  -roles R     roles with commas between them\n"
        "  -aud A       audience (default raftogram)\n"
        "  -iss I       issuer (default none)\n"
        "  -kid K       id of the key (default: the file's name without .pem)\n"
        "  -ttl D       lifetime: 15m, 8h (default 1h)\n"
        "inspect reads a token from a file or from stdin and shows it. With the public key in\n"
        "-key it also checks the signature: exit code 1 when it is wrong.\n"
        "A token is a password: neither verb takes one as an argument.\n"
        "\n"
        "Examples:\n"
        "  raftogramctl token new alice -key dev.pem -roles member,admin > alice.jwt\n"
        "  raftogramctl token inspect alice.jwt -key /etc/raftogram/jwt.d/dev.pem\n",
    .operands_min = 1,
    .operands_max = 2,
    .options = OPTION_KEY | OPTIONS_OF_NEW,
    .is_local = true,
    .first_operand = "new|inspect",
    .run = run_token,
};
