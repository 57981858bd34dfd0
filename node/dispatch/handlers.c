/* The table of handlers, one row for each method. */
#include "dispatch/dispatch_internal.h"

const struct method_handler *const dispatch_method_handlers[DISPATCH_METHOD_COUNT] = {
    [DISPATCH_CREATE_CHANNEL] = &dispatch_handle_create_channel,
    [DISPATCH_SEND_MESSAGE] = &dispatch_handle_send_message,
    [DISPATCH_SEND_MESSAGES] = &dispatch_handle_send_messages,
    [DISPATCH_PUBLISH] = &dispatch_handle_publish,
    [DISPATCH_READ_HISTORY] = &dispatch_handle_read_history,
    [DISPATCH_LIST_CHANNELS] = &dispatch_handle_list_channels,
    [DISPATCH_SUBSCRIBE] = &dispatch_handle_subscribe,
    [DISPATCH_PROPOSE] = &dispatch_handle_propose,
    [DISPATCH_READ] = &dispatch_handle_read,
    [DISPATCH_STATUS] = &dispatch_handle_status,
    [DISPATCH_TRANSFER_LEADERSHIP] = &dispatch_handle_transfer_leadership,
    [DISPATCH_LIST_KEYS] = &dispatch_handle_list_keys,
};
