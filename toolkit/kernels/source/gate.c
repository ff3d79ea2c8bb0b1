/* The hidden features of a gated MLP: silu(gate) * up. A feature's bits depend on nothing beside it. */
#include "exponential.h"
#include "kernels.h"
#include "team.h"

enum { PART = 16 * 1024 }; /* numbers that one thread takes at a time */

typedef struct {
    Gate g;
    int64_t share; /* rows in a part */
} Job;

/* x / (1 + e ^ -x), by e ^ -|x|, which does not overflow. */
INLINE Lanes silu(Lanes x) {
    Whole negative = x < 0.0f;
    Lanes small = exponential(chosen(negative, x, -x));
    return x * chosen(negative, small, (Lanes){0} + 1.0f) / (1.0f + small);
}

static void row_of(const Gate *g, int64_t row) {
    const float *gate = g->x + row * 2 * g->count, *up = gate + g->count;
    float *restrict y = g->y + row * g->count;
    int64_t at = 0, rest = g->count % LANES;
    for (; at + LANES <= g->count; at += LANES) {
        Lanes out = silu(loaded(gate + at)) * loaded(up + at);
        memcpy(y + at, &out, sizeof out);
    }
    if (rest) {
        Lanes out = silu(loaded_some(gate + at, rest)) * loaded_some(up + at, rest);
        memcpy(y + at, &out, (size_t)rest * sizeof(float));
    }
}

static void gate_part(const void *job, int64_t part) {
    const Job *j = job;
    int64_t end = smaller((part + 1) * j->share, j->g.rows);
    for (int64_t row = part * j->share; row < end; row++) row_of(&j->g, row);
}

void gate(const Gate *g) {
    Job job = {*g, PART / g->count + 1};
    together(gate_part, &job, (g->rows - 1) / job.share + 1);
}
