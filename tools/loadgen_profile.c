#include "tools/loadgen_profile.h"

#include "base/clock.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------- the table */

/* Shares are of a whole run. docs/man/sendring-loadgen.1 tells them; --list-profiles prints them from here. */
static const struct loadgen_profile loadgen_profiles[] = {
        {
                .name = "newsletter-burst",
                .text = "A campaign leaves the queue: Sends in a burst that falls as the queue drains, Deliveries\n"
                        "close behind, delays and bounces after them, Opens and Clicks as a long tail.\n",
                .rate = 2000,
                .duration_s = 600,
                .size = LOADGEN_SIZE_LARGE,
                .sets_count = 2,
                .campaigns_count = 1,
                .tenants_count = 3,
                .parts = {{SENDRING_SEND, 384, LOADGEN_CURVE_DECAY, .fall = 0.12, .lag = 0.004},
                          {SENDRING_DELIVERY, 373, LOADGEN_CURVE_DECAY, .fall = 0.12, .lag = 0.02},
                          {SENDRING_DELIVERY_DELAY, 8, LOADGEN_CURVE_DECAY, .fall = 0.12, .lag = 0.06},
                          {SENDRING_BOUNCE, 8, LOADGEN_CURVE_DECAY, .fall = 0.12, .lag = 0.03},
                          {SENDRING_OPEN, 175, LOADGEN_CURVE_DECAY, .fall = 0.12, .lag = 0.45},
                          {SENDRING_CLICK, 48, LOADGEN_CURVE_DECAY, .fall = 0.12, .lag = 0.5},
                          {SENDRING_COMPLAINT, 1, LOADGEN_CURVE_DECAY, .fall = 0.12, .lag = 0.5},
                          {SENDRING_SUBSCRIPTION, 3, LOADGEN_CURVE_DECAY, .fall = 0.12, .lag = 0.5}},
        },
        {
                .name = "transactional-trickle",
                .text = "Receipts and password mails of many tenants: single mails that come by themselves (Poisson),\n"
                        "nearly all delivered.\n",
                .rate = 5,
                .duration_s = 600,
                .poisson = true,
                .size = LOADGEN_SIZE_STANDARD,
                .sets_count = 8,
                .campaigns_count = 20,
                .tenants_count = 50,
                .parts = {{SENDRING_SEND, 470, LOADGEN_CURVE_EVEN},
                          {SENDRING_DELIVERY, 459, LOADGEN_CURVE_EVEN},
                          {SENDRING_DELIVERY_DELAY, 8, LOADGEN_CURVE_EVEN},
                          {SENDRING_BOUNCE, 9, LOADGEN_CURVE_EVEN},
                          {SENDRING_REJECT, 1, LOADGEN_CURVE_EVEN},
                          {SENDRING_RENDERING_FAILURE, 2, LOADGEN_CURVE_EVEN},
                          {SENDRING_OPEN, 40, LOADGEN_CURVE_EVEN},
                          {SENDRING_CLICK, 10, LOADGEN_CURVE_EVEN},
                          {SENDRING_COMPLAINT, 1, LOADGEN_CURVE_EVEN}},
        },
        {
                /* Of 100 Sends, before the block: 96 Deliveries, 2 Bounces, 1 DeliveryDelay, 10 Opens. After it a
                 * provider with three quarters of the recipients takes nothing: 25 Deliveries, and what was under way
                 * bounces and is put off at once. */
                .name = "bounce-storm",
                .text = "A large provider blocks the sender after a tenth of the run: from then on most Sends end in "
                        "a\n"
                        "Bounce or are put off (DeliveryDelay), first those that were under way, all at once.\n",
                .rate = 1000,
                .duration_s = 600,
                .blocked = true,
                .size = LOADGEN_SIZE_STANDARD,
                .sets_count = 4,
                .campaigns_count = 5,
                .tenants_count = 10,
                .parts = {{SENDRING_SEND, 431, LOADGEN_CURVE_EVEN},
                          {SENDRING_DELIVERY, 138, LOADGEN_CURVE_STEP, .at = 0.1, .before = 96, .from_now = 25},
                          {SENDRING_BOUNCE, 116, LOADGEN_CURVE_STEP, .at = 0.1, .before = 2, .from_now = 31},
                          {SENDRING_BOUNCE, 60, LOADGEN_CURVE_SPIKE, .at = 0.1, .fall = 0.05},
                          {SENDRING_DELIVERY_DELAY, 173, LOADGEN_CURVE_STEP, .at = 0.1, .before = 1, .from_now = 45},
                          {SENDRING_DELIVERY_DELAY, 60, LOADGEN_CURVE_SPIKE, .at = 0.1, .fall = 0.1},
                          {SENDRING_OPEN, 16, LOADGEN_CURVE_STEP, .at = 0.2, .before = 10, .from_now = 3},
                          {SENDRING_CLICK, 5, LOADGEN_CURVE_STEP, .at = 0.2, .before = 3, .from_now = 1},
                          {SENDRING_COMPLAINT, 1, LOADGEN_CURVE_EVEN}},
        },
        {
                .name = "open-storm",
                .text = "The recipients of one large campaign read it: Opens rise within seconds and fall slowly, "
                        "Clicks\n"
                        "follow; next to no mail is sent.\n",
                .rate = 3000,
                .duration_s = 300,
                .size = LOADGEN_SIZE_STANDARD,
                .sets_count = 1,
                .campaigns_count = 1,
                .tenants_count = 1,
                .parts = {{SENDRING_OPEN, 800, LOADGEN_CURVE_DECAY, .fall = 0.3, .lag = 0.03},
                          {SENDRING_CLICK, 150, LOADGEN_CURVE_DECAY, .fall = 0.3, .lag = 0.08},
                          {SENDRING_SEND, 20, LOADGEN_CURVE_EVEN},
                          {SENDRING_DELIVERY, 20, LOADGEN_CURVE_EVEN},
                          {SENDRING_SUBSCRIPTION, 7, LOADGEN_CURVE_DECAY, .fall = 0.3, .lag = 0.1},
                          {SENDRING_COMPLAINT, 3, LOADGEN_CURVE_DECAY, .fall = 0.3, .lag = 0.1}},
        },
};

#define LOADGEN_PROFILES_COUNT (sizeof(loadgen_profiles) / sizeof(loadgen_profiles[0]))

const struct loadgen_profile *loadgen_profile_at(uint32_t index)
{
        return index < LOADGEN_PROFILES_COUNT ? &loadgen_profiles[index] : NULL;
}

const struct loadgen_profile *loadgen_profile_find(const char *name)
{
        for (uint32_t i = 0; i < LOADGEN_PROFILES_COUNT; i++)
                if (strcmp(loadgen_profiles[i].name, name) == 0)
                        return &loadgen_profiles[i];
        return NULL;
}

/* ---------------------------------------------------------------------------------------------- curves */

/* What the curve has brought by x (0..1), in a unit of its own. */
static double curve_area(const struct loadgen_profile_part *part, double x)
{
        double after = x > part->at ? x - part->at : 0;
        switch (part->curve) {
        case LOADGEN_CURVE_EVEN:
                return x;
        case LOADGEN_CURVE_DECAY: /* the sum of two exponential times */
                return 1 -
                       (part->fall * exp(-x / part->fall) - part->lag * exp(-x / part->lag)) / (part->fall - part->lag);
        case LOADGEN_CURVE_STEP:
                return part->before * (x - after) + part->from_now * after;
        case LOADGEN_CURVE_SPIKE:
                return 1 - exp(-after / part->fall);
        }
        return 0;
}

/* Share of all events of the run that come in a cell, by type - 1. Returns their sum. */
static double profile_cell(const struct loadgen_profile *profile, uint32_t cell, double ret_types[LOADGEN_TYPES_COUNT])
{
        double sum = 0;
        memset(ret_types, 0, LOADGEN_TYPES_COUNT * sizeof(*ret_types));
        for (uint32_t i = 0; i < LOADGEN_PROFILE_PARTS_MAX && profile->parts[i].permille > 0; i++) {
                const struct loadgen_profile_part *part = &profile->parts[i];
                double area = curve_area(part, (double)(cell + 1) / LOADGEN_PROFILE_CELLS) -
                              curve_area(part, (double)cell / LOADGEN_PROFILE_CELLS);
                double share = part->permille / 1000.0 * area / curve_area(part, 1);
                ret_types[part->type - 1] += share;
                sum += share;
        }
        return sum;
}

/* ---------------------------------------------------------------------------------------------- figures */

uint32_t loadgen_profile_permille(const struct loadgen_profile *profile, enum sendring_event_type type)
{
        uint32_t permille = 0;
        for (uint32_t i = 0; i < LOADGEN_PROFILE_PARTS_MAX && profile->parts[i].permille > 0; i++)
                permille += profile->parts[i].type == type ? profile->parts[i].permille : 0;
        return permille;
}

double loadgen_profile_peak(const struct loadgen_profile *profile)
{
        double types[LOADGEN_TYPES_COUNT], peak = 0;
        for (uint32_t cell = 0; cell < LOADGEN_PROFILE_CELLS; cell++) {
                double share = profile_cell(profile, cell, types);
                peak = share > peak ? share : peak;
        }
        return peak * LOADGEN_PROFILE_CELLS;
}

void loadgen_profile_list(FILE *out)
{
        static const char *const sizes[] = {
                [LOADGEN_SIZE_SMALL] = "small", [LOADGEN_SIZE_STANDARD] = "standard", [LOADGEN_SIZE_LARGE] = "large"};
        for (uint32_t i = 0; i < LOADGEN_PROFILES_COUNT; i++) {
                const struct loadgen_profile *profile = &loadgen_profiles[i];
                double peak = loadgen_profile_peak(profile);
                (void)fprintf(out, "%s%s\n%s", i > 0 ? "\n" : "", profile->name, profile->text);
                (void)fprintf(
                        out,
                        "  %.0f events/s on average, at most %.0f (%.1f times as many), for %.0f m: %.0f events%s\n"
                        "  size %s, sets %u, campaigns %u, tenants %u\n ",
                        profile->rate, profile->rate * peak, peak, profile->duration_s / 60,
                        profile->rate * profile->duration_s, profile->poisson ? " on average" : "",
                        sizes[profile->size], profile->sets_count, profile->campaigns_count, profile->tenants_count);
                for (unsigned type = 1; type <= LOADGEN_TYPES_COUNT; type++) {
                        uint32_t permille = loadgen_profile_permille(profile, (enum sendring_event_type)type);
                        if (permille > 0)
                                (void)fprintf(out, " %s %.1f%%", loadgen_type_name((enum sendring_event_type)type),
                                              permille / 10.0);
                }
                (void)fprintf(out, "\n");
        }
}

/* ---------------------------------------------------------------------------------------------- plan */

void loadgen_profile_plan(const struct loadgen_profile *profile, uint64_t events_count, uint64_t duration_ns,
                          uint32_t producers_count, uint64_t seed, struct loadgen_profile_plan *ret_plan)
{
        double until = 0;
        *ret_plan = (struct loadgen_profile_plan){.events_count = events_count,
                                                  .duration_ns = duration_ns,
                                                  .producers_count = producers_count,
                                                  .seed = seed,
                                                  .poisson = profile->poisson};
        for (uint32_t cell = 0; cell < LOADGEN_PROFILE_CELLS; cell++) {
                double types[LOADGEN_TYPES_COUNT], below = 0;
                double share = profile_cell(profile, cell, types);
                ret_plan->until[cell] = until;
                until += share;
                for (int i = 0; i < LOADGEN_TYPES_COUNT; i++) {
                        below += types[i];
                        ret_plan->types[cell][i] = share > 0 ? (float)(below / share) : 1;
                }
        }
        ret_plan->until[LOADGEN_PROFILE_CELLS] = 1; /* `until` but for rounding */
}

void loadgen_profile_begin(struct loadgen_profile_cursor *cursor, const struct loadgen_profile_plan *plan,
                           uint32_t producer)
{
        *cursor = (struct loadgen_profile_cursor){.plan = plan, .producer = producer};
        /* Never 0, which would be a seed from the kernel. */
        random_init(&cursor->random, (plan->seed * UINT64_C(0x9e3779b97f4a7c15) + producer) | UINT64_C(1) << 63);
}

static enum sendring_event_type cursor_type(struct loadgen_profile_cursor *cursor)
{
        const float *below = cursor->plan->types[cursor->cell];
        double drawn = random_unit(&cursor->random);
        int i = 0;
        while (i < LOADGEN_TYPES_COUNT - 1 && drawn >= (double)below[i])
                i++;
        /* Rounding may leave a sliver behind the last type of the cell. */
        while (i > 0 && below[i] <= below[i - 1])
                i--;
        return (enum sendring_event_type)(i + 1);
}

bool loadgen_profile_next(struct loadgen_profile_cursor *cursor, uint64_t *ret_due_ns,
                          enum sendring_event_type *ret_type)
{
        const struct loadgen_profile_plan *plan = cursor->plan;
        double events_count = (double)plan->events_count;
        double drawn = random_unit(&cursor->random);
        if (plan->poisson) {
                /* Independent producers: their sum is as independent. */
                cursor->quantile += -log(1 - drawn) * plan->producers_count / events_count;
                if (cursor->quantile >= 1)
                        return false;
        } else {
                uint64_t number = cursor->index * plan->producers_count + cursor->producer;
                if (number >= plan->events_count)
                        return false;
                cursor->quantile = ((double)number + drawn) / events_count;
                if (cursor->quantile >= 1) /* by rounding */
                        cursor->quantile = nextafter(1, 0);
        }
        cursor->index++;
        while (plan->until[cursor->cell + 1] <= cursor->quantile)
                cursor->cell++; /* ends: the last bound is 1 */
        double before = plan->until[cursor->cell], width = plan->until[cursor->cell + 1] - before;
        double at = (cursor->cell + (cursor->quantile - before) / width) / LOADGEN_PROFILE_CELLS;
        *ret_due_ns = (uint64_t)(at * (double)plan->duration_ns);
        *ret_type = cursor_type(cursor);
        return true;
}
