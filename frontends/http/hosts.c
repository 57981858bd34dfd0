/* Which hosts and origins this node serves: origin.h applied to the configuration and the members.
 */
#include "http_internal.h"
#include "origin.h"

/* The texts of the members' addresses belong to dispatch. */
static void get_rules(struct http_frontend *frontend, const char *peers[CLUSTER_MEMBERS_MAX],
                      struct origin_rules *out)
{
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    for (size_t i = 0; i < node.member_count; i++) {
        peers[i] = node.members[i].http_addr;
    }
    *out = (struct origin_rules){
        .hosts = frontend->options.allowed_hosts,
        .host_count = frontend->options.allowed_host_count,
        .origins = frontend->options.allowed_origins,
        .origin_count = frontend->options.allowed_origin_count,
        .peers = peers,
        .peer_count = node.member_count,
    };
}

bool frontend_allows_origin(struct http_frontend *frontend, const struct http_head *head)
{
    const char *peers[CLUSTER_MEMBERS_MAX];
    struct origin_rules rules;
    get_rules(frontend, peers, &rules);
    return origin_is_allowed(&rules, head->origin, head->host);
}

/* HTTP/1.0 is allowed without a Host. Browsers, which rebinding needs, always send one. */
bool frontend_allows_host(struct http_frontend *frontend, const struct http_head *head,
                          struct answer *answer)
{
    struct authority host;
    if (head->host.data == NULL) {
        return true;
    }
    if (!authority_read(head->host, &host)) {
        answer_error(answer, 400, "the Host is to be a name or an address, with a port or without");
        answer->is_last = true;
        return false;
    }
    if (authority_is_ip(&host)) {
        return true;
    }
    const char *peers[CLUSTER_MEMBERS_MAX];
    struct origin_rules rules;
    get_rules(frontend, peers, &rules);
    if (!origin_host_is_allowed(&rules, head->host)) {
        answer_error(answer, 421, "this host is not served here: list it in http.allowed_hosts");
        answer->is_last = true;
        return false;
    }
    return true;
}
