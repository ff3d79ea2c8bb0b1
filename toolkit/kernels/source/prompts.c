/* Attention of a prompt's queries, which lie side by side in registers (AVX-512): a key's score with
   each of them is one of as many running sums, and so is each feature of what they read. A query's
   bits depend on what it sees alone: what only its neighbours see weighs nothing. */
#include "attention.h"

#if defined(__AVX512F__)
#include "scratch.h"
#include "wide.h"
#include <float.h>
#include <math.h>

enum {
    WIDE = 4,            /* registers of queries */
    QUERIES = WIDE * LANES,
    ROWS = 6,            /* keys, or features, that meet them together */
};

typedef struct {
    Whole first[WIDE], last[WIDE]; /* slots that each query sees */
    float *columns;                /* [width, QUERIES] queries, then what they have read */
    float *weights;                /* [slots, QUERIES] */
    Lanes total[WIDE];
} Block;

int reads_side_by_side(void) { return 1; }
int64_t side_by_side(void) { return QUERIES; }

/* to[i] = sum of x[i * apart + k * along] * columns[k], for `rows` i and `count` k. */
INLINE void gather(int rows, const float *x, int64_t apart, int64_t along, const float *columns,
                   int64_t count, float *to) {
    Lanes sums[ROWS][WIDE];
#pragma unroll
    for (int i = 0; i < rows; i++)
#pragma unroll
        for (int j = 0; j < WIDE; j++) sums[i][j] = (Lanes){0};
    for (int64_t k = 0; k < count; k++, columns += QUERIES) {
        Lanes right[WIDE];
#pragma unroll
        for (int j = 0; j < WIDE; j++) right[j] = loaded(columns + j * LANES);
#pragma unroll
        for (int i = 0; i < rows; i++) {
            float left = x[i * apart + k * along];
#pragma unroll
            for (int j = 0; j < WIDE; j++) sums[i][j] += left * right[j];
        }
    }
#pragma unroll
    for (int i = 0; i < rows; i++) memcpy(to + i * QUERIES, sums[i], sizeof sums[i]);
}

/* Scores of the queries with some keys. */
static void meet(const float *keys, int64_t count, int64_t width, const float *columns, float *to) {
    for (; count >= ROWS; count -= ROWS, keys += ROWS * width, to += ROWS * QUERIES)
        gather(ROWS, keys, width, 1, columns, width, to);
    for (; count > 0; count--, keys += width, to += QUERIES)
        gather(1, keys, width, 1, columns, width, to);
}

/* What the queries read from some values: feature by feature. */
static void mix(const float *values, int64_t count, int64_t width, const float *weights,
                float *to) {
    int64_t k = 0;
    for (; k + ROWS <= width; k += ROWS)
        gather(ROWS, values + k, 1, width, weights, count, to + k * QUERIES);
    for (; k < width; k++) gather(1, values + k, 1, width, weights, count, to + k * QUERIES);
}

static void capped(float *scores, int64_t count, float scale, float cap) {
    for (int64_t i = 0; i < count * QUERIES; i++) scores[i] = tanhf(scores[i] * scale / cap) * cap;
}

/* Scores of the slots from `from` on: in place what they weigh; the sums. A score that is no number
   makes a sum none. */
INLINE void weigh(Block *b, int64_t from, int64_t count, float scale) {
    const Lanes none = (Lanes){0} - INFINITY;
    Lanes top[WIDE], total[WIDE];
    Whole first[WIDE], last[WIDE], slot = (Whole){0} + (int32_t)from;
#pragma unroll
    for (int j = 0; j < WIDE; j++) {
        top[j] = (Lanes){0} - FLT_MAX, total[j] = (Lanes){0};
        first[j] = b->first[j], last[j] = b->last[j];
    }
    float *at = b->weights, *end = at + count * QUERIES;
    for (; at < end; at += QUERIES, slot += 1)
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            Whole sees = (slot >= first[j]) & (slot <= last[j]);
            Lanes score = chosen(sees, loaded(at + j * LANES) * scale, none);
            memcpy(at + j * LANES, &score, sizeof score);
            top[j] = chosen(score > top[j], score, top[j]);
        }
    for (at = b->weights; at < end; at += QUERIES)
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            Lanes weight = exponential(loaded(at + j * LANES) - top[j]);
            memcpy(at + j * LANES, &weight, sizeof weight);
            total[j] += weight;
        }
    memcpy(b->total, total, sizeof total);
}

/* What `count` queries have read, as rows. */
static void as_rows(const Block *b, int64_t count, int64_t width, float *const to[QUERIES]) {
    for (int64_t row = 0; row < count; row += SIDE)
        for (int64_t at = 0; at < width; at += SIDE) {
            __m512i r[SIDE];
            for (int i = 0; i < SIDE; i++) {
                Lanes read = loaded(b->columns + (at + i) * QUERIES + row) / b->total[row / LANES];
                memcpy(&r[i], &read, sizeof read);
            }
            transpose(r);
            for (int i = 0; i < SIDE && row + i < count; i++)
                _mm512_storeu_si512(to[row + i] + at, r[i]);
        }
}

void side_by_side_part(const void *given, int64_t part) {
    const Reading *job = given;
    const Attention *a = &job->a;
    int64_t blocks = a->batch * job->blocks, batch = part % blocks / job->blocks;
    int64_t own = part / blocks, head = batch * a->both + own, queries = a->group * a->length;
    int64_t query = part % job->blocks * QUERIES, count = smaller(QUERIES, queries - query);
    int64_t from = INT64_MAX, past = 0;
    float *to[QUERIES];
    Block b = {0};
    for (int64_t i = 0; i < QUERIES; i++) {
        int64_t last = last_seen(a, batch, query + smaller(i, count - 1)), first = first_seen(a, last);
        b.first[i / LANES][i % LANES] = (int32_t)first, b.last[i / LANES][i % LANES] = (int32_t)last;
        from = smaller(from, first), past = larger(past, last + 1);
        if (i < count) to[i] = place_of(a, batch, own, query + i);
    }
    size_t size = (size_t)((past - from + a->width) * QUERIES) * sizeof(float);
    b.columns = scratch(PART, size);
    if (!b.columns) {
        atomic_store(job->failed, 1);
        return;
    }
    b.weights = b.columns + a->width * QUERIES;
    const float *x = job->queries + (head * queries + query) * a->width;
    for (int64_t row = 0; row < QUERIES; row += SIDE)
        into_columns(x + row * a->width, a->width, count - row, a->width, b.columns + row, QUERIES);
    const float *keys = a->keys + head * a->slots * a->width;
    const float *values = a->values + head * a->slots * a->width;
    meet(keys + from * a->width, past - from, a->width, b.columns, b.weights);
    if (a->cap > 0) capped(b.weights, past - from, a->scale, a->cap);
    weigh(&b, from, past - from, a->cap > 0 ? 1 : a->scale);
    mix(values + from * a->width, past - from, a->width, b.weights, b.columns);
    as_rows(&b, count, a->width, to);
}

#else

int reads_side_by_side(void) { return 0; }
int64_t side_by_side(void) { return 0; }
void side_by_side_part(const void *job, int64_t part) {}

#endif
