/* The web page: finds the file of a path, and sets headers that protect the page. */
#include "base/errors.h"
#include "http_internal.h"
#include "static_files.h"

#include <ctype.h>
#include <string.h>

#define TAGS_BYTES_MAX 512

/* True if the text, which a client wrote, is safe in a policy. */
static bool is_authority(struct bytes text)
{
    const char *data = text.data;
    for (size_t i = 0; i < text.size; i++) {
        if (!isalnum((unsigned char)data[i]) &&
            (data[i] == '\0' || strchr(".-:[]_", data[i]) == NULL)) {
            return false;
        }
    }
    return text.size > 0;
}

static void append_source(struct buf *out, const char *scheme, struct bytes authority)
{
    if (is_authority(authority)) {
        buf_append_text(out, scheme);
        buf_append(out, authority.data, authority.size);
    }
}

static void append_sources(struct buf *out, struct bytes authority)
{
    append_source(out, " http://", authority);
    append_source(out, " ws://", authority);
}

/* The page may connect only to the nodes of its cluster. Some browsers do not apply 'self' to ws:,
 * so the host of the page is listed too. */
static void append_policy(struct http_frontend *frontend, const struct request *request,
                          struct buf *out)
{
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    buf_append_text(out, "default-src 'none'; script-src 'self'; style-src 'self'; "
                         "img-src 'self' data:; font-src 'self'; manifest-src 'self'; "
                         "connect-src 'self'");
    append_sources(out, request->head->host);
    append_source(out, " wss://", request->head->host); /* behind a proxy with TLS */
    for (size_t i = 0; i < node.member_count; i++) {
        append_sources(out, bytes_of_text(node.members[i].http_addr));
    }
    buf_append_text(out, "; base-uri 'none'; form-action 'self'; frame-ancestors 'none'");
}

static bool is_known_already(const struct request *request, const char *etag)
{
    char tags[TAGS_BYTES_MAX];
    struct bytes value = request->head->if_none_match;
    if (value.size == 0 || value.size >= sizeof(tags)) {
        return false;
    }
    memcpy(tags, value.data, value.size);
    tags[value.size] = '\0';
    return static_etag_matches(tags, etag);
}

static int find_content(struct http_frontend *frontend, const char *path, struct answer *answer)
{
    const char *root = frontend->options.web_root;
    if (root != NULL && root[0] != '\0') {
        return static_read(root, path, &answer->body);
    }
    const struct static_file *file = static_find(path);
    if (file == NULL) {
        return ERR_NOT_FOUND;
    }
    answer->shared = (struct bytes){file->data, file->size};
    return 0;
}

void serve_page(struct http_frontend *frontend, const struct request *request,
                struct answer *answer)
{
    int rc = find_content(frontend, request->path, answer);
    if (rc == ERR_NOT_FOUND) {
        answer_error(answer, 404, "no such page");
        return;
    }
    if (rc != 0) {
        answer_error(answer, 500, "the file cannot be read");
        return;
    }
    struct bytes content = answer->shared.data != NULL ? answer->shared : buf_bytes(&answer->body);
    answer->content_type = static_type(request->path);
    answer->has_etag = true;
    static_etag(content, answer->etag);
    append_policy(frontend, request, &answer->policy);
    if (is_known_already(request, answer->etag)) {
        answer->status = 304;
        answer->shared = (struct bytes){0};
        buf_finish(&answer->body);
    }
}
