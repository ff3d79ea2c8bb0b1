/* Causal attention: new tokens are turned and take their slots of the cache, then a few queries of
   one key/value head at a time read it. Slots that no query sees are not read. A query's bits depend
   on what it sees alone. Rows that share their first slots read them in one place, and one after
   another, so that they stay near the core. */
#include "attention.h"
#include "scratch.h"
#include "team.h"
#include <float.h>
#include <math.h>

enum { TOGETHER = 16 }; /* tokens that one thread turns */

/* A head's features: feature i of the first half of those that turn goes with the same of the
   second half. */
static void turn(const float *x, const float *cosine, const float *sine, int64_t turning,
                 int64_t width, float *to) {
    int64_t half = turning / 2;
    for (int64_t i = 0; i < half; i++) {
        float first = x[i], second = x[half + i];
        to[i] = first * cosine[i] + -second * sine[i];
        to[half + i] = second * cosine[half + i] + first * sine[half + i];
    }
    memcpy(to + turning, x + turning, (size_t)(width - turning) * sizeof(float));
}

/* Queries, turned, to where they are read; keys, turned, and values to their slots. A start from
   which the tokens would pass the last slot is moved back. */
static void enter(const Reading *job, int64_t token) {
    const Attention *a = &job->a;
    int64_t batch = token / a->length, at = token % a->length, heads = a->both * a->group;
    int64_t slot = larger(0, smaller(a->start[batch], a->slots - a->length)) + at;
    const float *x = a->tokens + token * (heads + 2 * a->both) * a->width;
    const float *cosine = a->cosine + token * a->turning, *sine = a->sine + token * a->turning;
    for (int64_t head = 0; head < heads; head++, x += a->width)
        turn(x, cosine, sine, a->turning, a->width,
             job->queries + ((batch * heads + head) * a->length + at) * a->width);
    for (int64_t head = 0; head < a->both; head++, x += a->width) {
        int64_t place = ((batch * a->both + head) * a->slots + slot) * a->width;
        turn(x, cosine, sine, a->turning, a->width, a->keys + place);
        memcpy(a->values + place, x + a->both * a->width, (size_t)a->width * sizeof(float));
    }
}

static void enter_part(const void *given, int64_t part) {
    const Reading *job = given;
    int64_t end = smaller((part + 1) * TOGETHER, job->a.batch * job->a.length);
    for (int64_t token = part * TOGETHER; token < end; token++) enter(job, token);
}

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
    float top = largest_lane(best);
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
        tile_of(rows, MOST_OUTS, x, keys + slot * width, 0, scores + slot - from, width, stride,
                (Ahead){0});
    for (; slot < to; slot++)
        tile_of(rows, 1, x, keys + slot * width, 0, scores + slot - from, width, stride,
                (Ahead){0});
}

/* to[i] = weights[i] . values / totals[i] for `rows` queries, over `columns` * LANES features from
   `column` on; the first `shared` slots lie elsewhere. */
INLINE void mix(int rows, int columns, const float *weights, int64_t stride, const float *source,
                int64_t shared, const float *values, int64_t slots, int64_t width,
                const float *totals, float *const *to, int64_t column) {
    Lanes sums[MOST_ROWS][MOST_OUTS];
#pragma unroll
    for (int i = 0; i < rows; i++)
#pragma unroll
        for (int j = 0; j < columns; j++) sums[i][j] = (Lanes){0};
    for (int64_t slot = 0; slot < slots; slot++) {
        const float *at = (slot < shared ? source : values) + slot * width + column;
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
            memcpy(to[i] + column + j * LANES, &out, sizeof out);
        }
}

INLINE void mix_of(int rows, int columns, const float *w, int64_t stride, const float *source,
                   int64_t shared, const float *values, int64_t slots, int64_t width,
                   const float *totals, float *const *to, int64_t column) {
#define MIX(n) mix(n, columns, w, stride, source, shared, values, slots, width, totals, to, column)
    EACH_COUNT(rows, MIX)
#undef MIX
}

static void attention_part(const void *given, int64_t part) {
    const Reading *job = given;
    const Attention *a = &job->a;
    int64_t blocks = a->batch * job->blocks, batch = part % blocks / job->blocks;
    int64_t own = part / blocks, head = batch * a->both + own, queries = a->group * a->length;
    int64_t row = part % job->blocks * MOST_ROWS;
    int rows = (int)smaller(MOST_ROWS, queries - row);
    int64_t first = INT64_MAX, last = 0, begin[MOST_ROWS], end[MOST_ROWS];
    float *to[MOST_ROWS];
    for (int i = 0; i < rows; i++) {
        end[i] = last_seen(a, batch, row + i), begin[i] = first_seen(a, end[i]);
        first = smaller(first, begin[i]), last = larger(last, end[i]);
        to[i] = place_of(a, batch, own, row + i);
    }
    int64_t from = first / LANES * LANES, past = (last / LANES + 1) * LANES, seen = past - from;
    float *scores = scratch(PART, sizeof(float) * (size_t)(MOST_ROWS * seen)), totals[MOST_ROWS];
    if (!scores) {
        atomic_store(job->failed, 1);
        return;
    }
    int64_t readable = smaller(past, a->slots), size = a->slots * a->width;
    int64_t source = a->source[batch] * a->both + own;
    int64_t shared = larger(from, smaller(a->shared[batch], a->start[batch]));
    const float *x = job->queries + (head * queries + row) * a->width;
    meet(rows, x, a->keys + source * size, from, shared, a->width, scores, seen);
    meet(rows, x, a->keys + head * size, shared, readable, a->width, scores + shared - from, seen);
    for (int i = 0; i < rows; i++)
        totals[i] = weigh(scores + i * seen, from, past, begin[i], end[i], a->scale, a->cap);
    const float *theirs = a->values + source * size + first * a->width;
    const float *values = a->values + head * size + first * a->width;
    const float *weights = scores + first - from;
    int64_t count = last + 1 - first, column = 0;
    shared -= first;
    for (; column + MOST_OUTS * LANES <= a->width; column += MOST_OUTS * LANES)
        mix_of(rows, MOST_OUTS, weights, seen, theirs, shared, values, count, a->width, totals, to,
               column);
    for (; column < a->width; column += LANES)
        mix_of(rows, 1, weights, seen, theirs, shared, values, count, a->width, totals, to, column);
}

int attention(const Attention *a) {
    int64_t queries = a->group * a->length, tokens = a->batch * a->length;
    int many = a->length > 1 && reads_side_by_side();
    int64_t block = many ? side_by_side() : MOST_ROWS, blocks = (queries + block - 1) / block;
    size_t size = (size_t)(a->batch * a->both * queries * a->width) * sizeof(float);
    atomic_int failed = 0;
    Reading job = {*a, scratch(JOB, size), blocks, &failed};
    if (!job.queries) return 0;
    together(enter_part, &job, (tokens + TOGETHER - 1) / TOGETHER);
    together(many ? side_by_side_part : attention_part, &job, a->batch * a->both * blocks);
    return !failed;
}
