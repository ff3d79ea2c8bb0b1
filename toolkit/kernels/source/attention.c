/* Causal attention over the cache, of a few queries of one key/value head at a time. Slots that no
   query sees are not read. A query's bits depend on what it sees alone. Rows that share their first
   slots read them in one place, and one after another, so that they stay near the core. */
#include "kernels.h"
#include "exponential.h"
#include "team.h"
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct {
    Attention a;
    int64_t blocks; /* of queries in a head */
    atomic_int *failed;
} Job;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Lanes of the slots from `slot` on that lie in first .. last. */
INLINE Whole within(int64_t slot, int64_t first, int64_t last) {
    const Whole lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (lane >= (int32_t)(first - slot)) & (lane <= (int32_t)(last - slot));
}

/* Scores of one query with the slots from .. to, whole LANES of them: in place what they weigh, and
   nothing outside of first .. last, which the query sees; the sum of the weights. A score that is
   no number makes the sum none. */
static float weigh(float *scores, int64_t from, int64_t to, int64_t first, int64_t last,
                   float scale, float cap) {
    const Lanes none = (Lanes){0} - INFINITY;
    Lanes best = (Lanes){0} - FLT_MAX, total = {0};
    if (cap > 0)
        for (int64_t slot = first; slot <= last; slot++)
            scores[slot - from] = tanhf(scores[slot - from] * scale / cap) * cap;
    for (int64_t slot = from; slot < to; slot += LANES) {
        Lanes score = loaded(scores + slot - from);
        score = chosen(within(slot, first, last), cap > 0 ? score : score * scale, none);
        best = chosen(score > best, score, best);
        memcpy(scores + slot - from, &score, sizeof score);
    }
    float top = largest(best);
    for (int64_t slot = from; slot < to; slot += LANES) {
        Lanes weight = exponential(loaded(scores + slot - from) - top);
        memcpy(scores + slot - from, &weight, sizeof weight);
        total += weight;
    }
    return sum(total);
}

/* Scores of `rows` queries with the keys of the slots from .. to, `stride` apart. */
static void meet(int rows, const float *x, const float *keys, int64_t from, int64_t to,
                 int64_t width, float *scores, int64_t stride) {
    int64_t slot = from;
    for (; slot + MOST_OUTS <= to; slot += MOST_OUTS)
        tile_of(rows, MOST_OUTS, x, keys + slot * width, scores + slot - from, width, stride, 0, 0);
    for (; slot < to; slot++)
        tile_of(rows, 1, x, keys + slot * width, scores + slot - from, width, stride, 0, 0);
}

/* mixed[i, :] = weights[i] . values / totals[i] for `rows` queries, over `columns` * LANES features
   from the pointers on; the first `shared` slots lie elsewhere. */
INLINE void mix(int rows, int columns, const float *weights, int64_t stride, const float *source,
                int64_t shared, const float *values, int64_t slots, int64_t width,
                const float *totals, float *mixed) {
    Lanes sums[MOST_ROWS][MOST_OUTS];
#pragma unroll
    for (int i = 0; i < rows; i++)
#pragma unroll
        for (int j = 0; j < columns; j++) sums[i][j] = (Lanes){0};
    for (int64_t slot = 0; slot < slots; slot++) {
        const float *at = (slot < shared ? source : values) + slot * width;
        Lanes value[MOST_OUTS];
#pragma unroll
        for (int j = 0; j < columns; j++) value[j] = loaded(at + j * LANES);
#pragma unroll
        for (int i = 0; i < rows; i++)
#pragma unroll
            for (int j = 0; j < columns; j++) sums[i][j] += value[j] * weights[i * stride + slot];
    }
#pragma unroll
    for (int i = 0; i < rows; i++)
#pragma unroll
        for (int j = 0; j < columns; j++) {
            Lanes out = sums[i][j] / totals[i];
            memcpy(mixed + i * width + j * LANES, &out, sizeof out);
        }
}

INLINE void mix_of(int rows, int columns, const float *w, int64_t stride, const float *source,
                   int64_t shared, const float *values, int64_t slots, int64_t width,
                   const float *totals, float *mixed) {
    switch (rows) {
    case 1: mix(1, columns, w, stride, source, shared, values, slots, width, totals, mixed); break;
    case 2: mix(2, columns, w, stride, source, shared, values, slots, width, totals, mixed); break;
    case 3: mix(3, columns, w, stride, source, shared, values, slots, width, totals, mixed); break;
    case 4: mix(4, columns, w, stride, source, shared, values, slots, width, totals, mixed); break;
    case 5: mix(5, columns, w, stride, source, shared, values, slots, width, totals, mixed); break;
    case 6: mix(6, columns, w, stride, source, shared, values, slots, width, totals, mixed); break;
    }
}

static void attention_part(const void *given, int64_t part) {
    const Job *job = given;
    const Attention *a = &job->a;
    int64_t blocks = a->batch * job->blocks, batch = part % blocks / job->blocks;
    int64_t head = batch * a->both + part / blocks, queries = a->group * a->length;
    int64_t row = part % job->blocks * MOST_ROWS;
    int rows = (int)least(MOST_ROWS, queries - row);
    int64_t start = a->start[batch], first = INT64_MAX, last = 0;
    for (int i = 0; i < rows; i++) {
        int64_t own = least(start + (row + i) % a->length, a->slots - 1);
        first = least(first, a->window ? most(0, own - a->window + 1) : 0);
        last = most(last, own);
    }
    int64_t from = first / LANES * LANES, to = (last / LANES + 1) * LANES, seen = to - from;
    float *scores = malloc(sizeof(float) * (size_t)(MOST_ROWS * seen)), totals[MOST_ROWS];
    if (!scores) {
        atomic_store(job->failed, 1);
        return;
    }
    int64_t readable = least(to, a->slots), size = a->slots * a->width;
    int64_t source = a->source[batch] * a->both + part / blocks;
    int64_t shared = most(from, least(a->shared[batch], last + 1));
    const float *x = a->queries + (head * queries + row) * a->width;
    meet(rows, x, a->keys + source * size, from, shared, a->width, scores, seen);
    meet(rows, x, a->keys + head * size, shared, readable, a->width, scores + shared - from, seen);
    for (int i = 0; i < rows; i++) {
        int64_t own = least(start + (row + i) % a->length, a->slots - 1);
        int64_t begin = a->window ? most(0, own - a->window + 1) : 0;
        totals[i] = weigh(scores + i * seen, from, to, begin, own, a->scale, a->cap);
    }
    const float *theirs = a->values + source * size + first * a->width;
    const float *values = a->values + head * size + first * a->width;
    const float *weights = scores + first - from;
    float *mixed = a->mixed + (head * queries + row) * a->width;
    int64_t count = last + 1 - first, column = 0, step = MOST_OUTS * LANES;
    for (; column + step <= a->width; column += step)
        mix_of(rows, MOST_OUTS, weights, seen, theirs + column, shared - first, values + column,
               count, a->width, totals, mixed + column);
    for (; column < a->width; column += LANES)
        mix_of(rows, 1, weights, seen, theirs + column, shared - first, values + column, count,
               a->width, totals, mixed + column);
    free(scores);
}

int attention(const Attention *a) {
    atomic_int failed = 0;
    Job job = {*a, (a->group * a->length + MOST_ROWS - 1) / MOST_ROWS, &failed};
    together(attention_part, &job, a->batch * a->both * job.blocks);
    return !failed;
}
