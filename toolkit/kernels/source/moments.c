/* What a row of logits says about one of its tokens, and about itself. A row is read twice, the
   second time from the cache near the core; its numbers depend on nothing beside it. */
#include "kernels.h"
#include "exponential.h"
#include "team.h"
#include <float.h>

enum { BLOCK = 256 }; /* numbers that are added in float32 */

typedef struct {
    Lanes mass, weighted;
    Whole before;
} Sums;

/* The largest of a row. */
static float peak_of(const float *x, int64_t count) {
    Lanes best = (Lanes){0} - FLT_MAX;
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES) {
        Lanes next = loaded(x + at);
        best = chosen(next > best, next, best);
    }
    float peak = largest_lane(best);
    for (; at < count; at++) peak = x[at] > peak ? x[at] : peak;
    return peak;
}

/* Sixteen logits: their mass is e to the power of their distance from the peak. */
INLINE void add(Sums *sums, Lanes logits, Whole ids, float peak, float own, int32_t token) {
    Lanes distance = logits - peak, mass = exponential(distance);
    sums->mass += mass;
    sums->weighted += chosen(mass == 0, (Lanes){0}, mass * distance);
    sums->before -= (logits > own) | ((logits == own) & (ids < token));
}

static void row_of(const Moments *m, int64_t row) {
    const float *x = m->x + row * m->count;
    int32_t token = m->token[row];
    float peak = peak_of(x, m->count), own = x[token];
    double mass = 0, weighted = 0;
    Whole before = {0}, lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int64_t from = 0; from < m->count; from += BLOCK) {
        Sums sums = {{0}, {0}, before};
        int64_t to = from + BLOCK < m->count ? from + BLOCK : m->count, at = from;
        for (; at + LANES <= to; at += LANES)
            add(&sums, loaded(x + at), lane + (int32_t)at, peak, own, token);
        if (at < to) {
            Whole inside = lane < (int32_t)(to - at);
            Lanes some = chosen(inside, loaded_some(x + at, to - at), (Lanes){0} - INFINITY);
            add(&sums, some, lane + (int32_t)at, peak, own, token);
        }
        mass += sum(sums.mass), weighted += sum(sums.weighted), before = sums.before;
    }
    int32_t rank = 1;
    for (int i = 0; i < LANES; i++) rank += before[i];
    double norm = log(mass), entropy = norm - weighted / mass;
    m->peak[row] = peak, m->norm[row] = (float)norm, m->rank[row] = rank;
    m->entropy[row] = entropy < 0 ? 0 : (float)entropy;
}

static void moments_part(const void *job, int64_t row) { row_of(job, row); }

void moments(const Moments *job) { together(moments_part, job, job->rows); }
