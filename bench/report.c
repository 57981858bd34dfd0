/* Prints the result as JSON. */
#include "bench/report.h"

#include "base/check.h"
#include "base/clock.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static void set(json_t *object, const char *key, json_t *value)
{
    CHECK(json_object_set_new(object, key, value) == 0);
}

/* Prints microseconds with one decimal, for people to compare. */
static json_t *microseconds(uint64_t ns)
{
    return json_real((double)(ns / 100) / 10);
}

static json_t *latencies(const struct histogram *histogram)
{
    json_t *object = json_object();
    set(object, "count", json_integer((json_int_t)histogram->count));
    set(object, "min", microseconds(histogram->min));
    set(object, "mean", microseconds((uint64_t)histogram_mean(histogram)));
    set(object, "p50", microseconds(histogram_quantile(histogram, 0.5)));
    set(object, "p90", microseconds(histogram_quantile(histogram, 0.9)));
    set(object, "p99", microseconds(histogram_quantile(histogram, 0.99)));
    set(object, "p999", microseconds(histogram_quantile(histogram, 0.999)));
    set(object, "max", microseconds(histogram->max));
    return object;
}

static double per_second(uint64_t count, uint64_t ns)
{
    return ns == 0 ? 0 : (double)count * (double)NS_PER_S / (double)ns;
}

static void print(json_t *object)
{
    CHECK(json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(8)) == 0);
    fputc('\n', stdout);
    json_decref(object);
}

static json_t *heading(const struct options *options)
{
    json_t *object = json_object();
    set(object, "work", json_string(options->work));
    return object;
}

static json_t *outcomes(const struct load_result *result)
{
    json_t *object = json_object();
    set(object, "ok", json_integer((json_int_t)result->outcomes[OUTCOME_OK]));
    set(object, "notLeader", json_integer((json_int_t)result->outcomes[OUTCOME_NOT_LEADER]));
    set(object, "refused", json_integer((json_int_t)result->outcomes[OUTCOME_REFUSED]));
    set(object, "error", json_integer((json_int_t)result->outcomes[OUTCOME_ERROR]));
    set(object, "unfinished", json_integer((json_int_t)result->unfinished));
    return object;
}

/* Prints pairs: the begin in monotonic nanoseconds, and the length in milliseconds. */
static json_t *gaps(const struct load_result *result)
{
    json_t *list = json_array();
    for (size_t i = 0; i < result->gap_count; i++) {
        json_t *pair = json_array();
        CHECK(json_array_append_new(pair, json_integer((json_int_t)result->gaps[i].begin_ns)) == 0);
        double milliseconds = (double)result->gaps[i].ns / (double)NS_PER_MS;
        CHECK(json_array_append_new(pair, json_real(milliseconds)) == 0);
        CHECK(json_array_append_new(list, pair) == 0);
    }
    return list;
}

void report_print(const struct options *options, const struct load_result *result,
                  const struct fanout_result *fanout)
{
    json_t *object = heading(options);
    set(object, "inFlight", json_integer(options->in_flight));
    set(object, "rate", json_real(options->rate));
    set(object, "payloadBytes", json_integer(options->payload_bytes));
    set(object, "measuredSeconds", json_real((double)result->measured_ns / (double)NS_PER_S));
    set(object, "throughput", json_real(per_second(result->measured_ok, result->measured_ns)));
    set(object, "messagesPerOperation", json_integer(options->messages_per_operation));
    uint64_t messages = result->measured_ok * options->messages_per_operation;
    set(object, "messages", json_real(per_second(messages, result->measured_ns)));
    set(object, "latencyUs", latencies(&result->latency));
    set(object, "outcomes", outcomes(result));
    if (result->first_error[0] != '\0') {
        /* The text of an error may be cut inside a character. */
        json_t *text = json_string(result->first_error);
        set(object, "firstError", text != NULL ? text : json_string("(not UTF-8)"));
    }
    set(object, "gaps", gaps(result));
    set(object, "clientCpuSeconds", json_real((double)result->cpu_ns / (double)NS_PER_S));
    if (fanout != NULL) {
        set(object, "subscribers", json_integer(options->subscribers));
        set(object, "deliveries", json_real(per_second(fanout->delivered, result->measured_ns)));
        set(object, "deliveryUs", latencies(&fanout->delivery));
        set(object, "surplus", json_integer((json_int_t)fanout->surplus));
        set(object, "lostConnections", json_integer(fanout->lost_connections));
    }
    print(object);
}

void report_print_first(const struct options *options, uint64_t done_ns)
{
    json_t *object = heading(options);
    set(object, "seconds", json_real((double)(done_ns - options->since_ns) / (double)NS_PER_S));
    print(object);
}
