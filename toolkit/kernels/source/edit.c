/* The edits of `toolkit.sampling.transforms`, bias, penalties, the guide and stop ids that are held
   back: a copy of a row's logits in which some are other numbers. */
#include "kernels.h"
#include "exponential.h"
#include "scratch.h"
#include "team.h"
#include <stdatomic.h>

typedef uint8_t Flags __attribute__((vector_size(16), aligned(1)));

typedef struct {
    const Edit *e;
    float *edited;
    atomic_int *failed;
} Job;

/* Sixteen logits after the penalties. */
INLINE Lanes penalised(Lanes x, Whole count, Whole prompted, const float *penalties) {
    const float repetition = penalties[0], frequency = penalties[1], presence = penalties[2];
    const Lanes none = {0};
    if (repetition != 1) {
        Lanes scaled = chosen(x > 0, x / repetition, x * repetition);
        x = chosen((prompted != 0) | (count > 0), scaled, x);
    }
    x -= __builtin_convertvector(count, Lanes) * frequency;
    return x - chosen(count > 0, none + presence, none);
}

static void penalise(const Edit *e, int64_t row, float *x) {
    const float *penalties = e->penalties + row * 3;
    const int32_t *counts = e->counts + row * e->count;
    const uint8_t *prompted = e->prompted + row * e->count;
    if (penalties[0] == 1 && penalties[1] == 0 && penalties[2] == 0) return;
    for (int64_t at = 0; at < e->count; at += LANES) {
        int64_t some = e->count - at < LANES ? e->count - at : LANES;
        Whole count = {0};
        Flags flags = {0};
        if (some == LANES) {
            memcpy(&count, counts + at, sizeof count), memcpy(&flags, prompted + at, sizeof flags);
        } else {
            memcpy(&count, counts + at, (size_t)some * sizeof(int32_t));
            memcpy(&flags, prompted + at, (size_t)some);
        }
        Whole seen = __builtin_convertvector(flags, Whole);
        if (!__builtin_reduce_or(count | seen)) continue;
        Lanes after = penalised(loaded_some(x + at, some), count, seen, penalties);
        memcpy(x + at, &after, (size_t)some * sizeof(float));
    }
}

float penalty_of(const Edit *e, int64_t row, int32_t token) {
    const Whole count = {e->counts[row * e->count + token]};
    const Whole prompted = {e->prompted[row * e->count + token]};
    float before = e->logits[row * e->count + token];
    for (int64_t i = row * e->biased; i < (row + 1) * e->biased; i++)
        if (e->ids[i] == token) before += e->values[i];
    if (before == -INFINITY) return 0;
    return before - penalised((Lanes){before}, count, prompted, e->penalties + row * 3)[0];
}

void count_tokens(int32_t *counts, const int32_t *token, const int32_t *more, int64_t rows,
                  int64_t count) {
    for (int64_t row = 0; row < rows; row++)
        if (token[row] >= 0 && token[row] < count) counts[row * count + token[row]] += more[row];
}

/* Whether every number is minus infinity. */
static int impossible(const float *x, int64_t count) {
    for (int64_t at = 0; at < count; at++)
        if (x[at] != -INFINITY) return 0;
    return 1;
}

static void keep(float *x, int64_t count, const int32_t *allowed, int64_t some, float *held) {
    for (int64_t i = 0; i < some; i++) held[i] = x[allowed[i]];
    for (int64_t at = 0; at < count; at++) x[at] = -INFINITY;
    int lost = impossible(held, some);
    for (int64_t i = 0; i < some; i++) x[allowed[i]] = lost ? 0 : held[i];
}

static void hold_back(float *x, int64_t count, const int32_t *ids, int64_t some, float *held) {
    for (int64_t i = 0; i < some; i++)
        if (ids[i] >= 0 && ids[i] < count) held[i] = x[ids[i]], x[ids[i]] = -INFINITY;
    if (!impossible(x, count)) return;
    for (int64_t i = some - 1; i >= 0; i--) /* an id that comes twice was held first as it was */
        if (ids[i] >= 0 && ids[i] < count) x[ids[i]] = held[i];
}

int64_t held_size(const Edit *e) { return e->count + e->stopping; }

void edit_row(const Edit *e, int64_t row, float *x, float *held) {
    memcpy(x, e->logits + row * e->count, (size_t)e->count * sizeof(float));
    for (int64_t i = row * e->biased; i < (row + 1) * e->biased; i++)
        if (e->ids[i] >= 0 && e->ids[i] < e->count) x[e->ids[i]] += e->values[i];
    penalise(e, row, x);
    int32_t node = e->node[row];
    if (node > 0 && node < e->nodes) {
        int32_t first = e->first[node];
        keep(x, e->count, e->allowed + first, e->first[node + 1] - first, held);
    }
    if (e->early[row]) hold_back(x, e->count, e->stops + row * e->stopping, e->stopping, held);
}

static void edit_part(const void *job, int64_t row) {
    const Job *j = job;
    float *held = scratch(PART, (size_t)held_size(j->e) * sizeof(float));
    if (held)
        edit_row(j->e, row, j->edited + row * j->e->count, held);
    else
        atomic_store(j->failed, 1);
}

int edit(const Edit *e, float *edited) {
    atomic_int failed = 0;
    Job job = {e, edited, &failed};
    together(edit_part, &job, e->rows);
    return !failed;
}
