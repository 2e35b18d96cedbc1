#include "tools/sink_fault.h"

#include "base/clock.h"

#include <stdlib.h>

static const char *const sink_fault_names[SINK_FAULTS_COUNT] = {
#define SINK_FAULT_NAME(name, text, help) text,
        SINK_FAULT_TABLE(SINK_FAULT_NAME)
#undef SINK_FAULT_NAME
};

#define SINK_LATENCY_NS_MAX (UINT64_C(600) * CLOCK_NS_PER_S)

const char *sink_fault_name(enum sink_fault fault)
{
        return sink_fault_names[fault];
}

/* A number at the start of `value`; *ret_unit is what follows it. */
static bool sink_fault_number(struct slice value, double *ret_number, struct slice *ret_unit)
{
        char text[64];
        if (!slice_to_text(value, text, sizeof(text)) || !(text[0] == '.' || (text[0] >= '0' && text[0] <= '9')))
                return false;
        char *end;
        double number = strtod(text, &end);
        if (!(number >= 0 && number < 1e12))
                return false;
        *ret_number = number;
        *ret_unit = slice_from(value, (size_t)(end - text));
        return true;
}

static enum err_code sink_faults_set_latency(struct sink_faults *faults, struct slice value, struct err *reterr)
{
        double number = 0;
        struct slice unit;
        double scale = 0;
        if (sink_fault_number(value, &number, &unit)) {
                if (slice_equal(unit, SLICE("us")))
                        scale = 1e3;
                else if (slice_equal(unit, SLICE("ms")))
                        scale = 1e6;
                else if (slice_equal(unit, SLICE("s")))
                        scale = 1e9;
                else if (unit.len == 0 && !(number > 0))
                        scale = 1;
        }
        if (!(scale > 0) || number * scale > (double)SINK_LATENCY_NS_MAX)
                return err_set(reterr, ERR_RANGE, "latency '%.*s': give a time such as 20ms, 500us or 2s, at most 600s",
                               SLICE_PRINTF(value));
        atomic_store_explicit(&faults->latency_ns, (uint64_t)(number * scale), memory_order_relaxed);
        return ERR_OK;
}

enum err_code sink_faults_set(struct sink_faults *faults, struct slice name, struct slice value, struct err *reterr)
{
        if (slice_equal(name, SLICE("latency")))
                return sink_faults_set_latency(faults, value, reterr);
        if (slice_equal(name, SLICE("down")) || slice_equal(name, SLICE("blackhole"))) {
                bool on = slice_equal(value, SLICE("on"));
                _Atomic bool *fault = slice_equal(name, SLICE("down")) ? &faults->down : &faults->blackhole;
                if (!on && !slice_equal(value, SLICE("off")))
                        return err_set(reterr, ERR_RANGE, "%.*s '%.*s': give on or off", SLICE_PRINTF(name),
                                       SLICE_PRINTF(value));
                atomic_store_explicit(fault, on, memory_order_relaxed);
                return ERR_OK;
        }
        for (int fault = 0; fault < SINK_FAULTS_COUNT; fault++) {
                double number;
                struct slice unit;
                if (!slice_equal(name, slice_of_text(sink_fault_names[fault])))
                        continue;
                if (!sink_fault_number(value, &number, &unit) || unit.len > 0 || number > 1)
                        return err_set(reterr, ERR_RANGE, "%s '%.*s': give a probability between 0 and 1",
                                       sink_fault_names[fault], SLICE_PRINTF(value));
                atomic_store_explicit(&faults->threshold[fault], (uint64_t)(number * 4294967296.0),
                                      memory_order_relaxed);
                return ERR_OK;
        }
        return err_set(reterr, ERR_SYNTAX,
                       "no fault is called '%.*s': throttle, partial, error500, latency, reset, reset_after, stall, "
                       "stall_bytes, endless, garbage, blackhole, down",
                       SLICE_PRINTF(name));
}

enum err_code sink_faults_set_keys(struct sink_faults *faults, struct slice keys, struct err *reterr)
{
        struct slice secret = keys, access = slice_cut(&secret, ' ');
        struct sink_keys *fresh = calloc(1, sizeof(*fresh));
        if (fresh == NULL)
                return err_set(reterr, ERR_MEMORY, "keys");
        secret = slice_trim(secret);
        if (access.len == 0 || secret.len == 0 ||
            !slice_to_text(access, fresh->access_key, sizeof(fresh->access_key)) ||
            !slice_to_text(secret, fresh->secret_key, sizeof(fresh->secret_key))) {
                free(fresh);
                return err_set(reterr, ERR_SYNTAX,
                               "give an access key id and a secret key, at most 128 characters each");
        }
        /* R1: pairs with A1 in sink_signature_is_valid(). */
        atomic_store_explicit(&faults->keys, fresh, memory_order_release);
        return ERR_OK;
}

bool sink_fault_draw(const struct sink_faults *faults, enum sink_fault fault, struct random_state *random)
{
        uint64_t threshold = atomic_load_explicit(&faults->threshold[fault], memory_order_relaxed);
        return threshold != 0 && (random_u64(random) >> 32) < threshold;
}
