/* The routes: which function serves which path. */
#include "http_internal.h"

#include <string.h>

static const struct route routes[] = {
    {"/debug/status", true, serve_status},
    {"/health", true, serve_health},
    {"/livez", true, serve_livez},
    {"/metrics", true, serve_metrics},
    {"/readyz", true, serve_readyz},
    {"/status", true, serve_status},
    {"/ws", false, serve_ws},
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
