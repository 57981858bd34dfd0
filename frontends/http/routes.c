/* Which path is what. */
#include "http_internal.h"

#include <string.h>

static const struct route routes[] = {
    {"/debug/status", serve_status},
    {"/health", serve_health},
    {"/livez", serve_livez},
    {"/metrics", serve_metrics},
    {"/readyz", serve_readyz},
    {"/status", serve_status},
    {"/ws", serve_ws},
};

const struct route *route_find(const char *path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (strcmp(routes[i].path, path) == 0) {
            return &routes[i];
        }
    }
    return NULL;
}

bool request_argument(const struct request *request, const char *name, char *out, size_t out_size)
{
    char argument[256];
    size_t name_size = strlen(name);
    for (int i = 0;; i++) {
        int size = lws_hdr_copy_fragment(request->wsi, argument, sizeof(argument),
                                         WSI_TOKEN_HTTP_URI_ARGS, i);
        if (size == -1) {
            return false;
        }
        if (size < 0 || strncmp(argument, name, name_size) != 0) {
            continue;
        }
        const char *value = argument + name_size;
        if (name[name_size - 1] != '=' && *value != '\0' && *value != '=') {
            continue;
        }
        lws_strncpy(out, value, out_size);
        return true;
    }
}
