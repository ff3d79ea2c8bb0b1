/* Sixteen floats side by side, and the product of a few rows with a few others.

   A dot product here is sixteen running sums, lane l over the features l, l + 16, ..., added in one
   order at the end. Nothing else decides its bits: not how many rows are multiplied together, not
   which thread does it. `a * b + c` in one expression is one rounding (-ffp-contract=on). */
#pragma once
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { LINE = 64, LANES = 16, MOST_ROWS = 6, MOST_OUTS = 4 };

typedef float Lanes __attribute__((vector_size(64), aligned(4)));
typedef float Half __attribute__((vector_size(32)));
typedef float Quarter __attribute__((vector_size(16)));
typedef float QuarterAnywhere __attribute__((vector_size(16), aligned(4)));

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

INLINE Lanes loaded(const float *at) { return *(const Lanes *)at; }

/* The first `count` floats, and zeros. */
INLINE Lanes loaded_some(const float *at, int64_t count) {
    Lanes lanes = {0};
    memcpy(&lanes, at, (size_t)count * sizeof(float));
    return lanes;
}

INLINE Quarter quartered(Lanes x) {
    Half half = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
    return __builtin_shufflevector(half, half, 0, 1, 2, 3) +
           __builtin_shufflevector(half, half, 4, 5, 6, 7);
}

/* The sums over the lanes of four. */
INLINE Quarter four_sums(Lanes a, Lanes b, Lanes c, Lanes d) {
#define FIRST(x, y, i) i, 16 + i, i + 1, 17 + i
#define BOTH(x, y, at) \
    __builtin_shufflevector(x, y, FIRST(x, y, at), FIRST(x, y, at + 4), FIRST(x, y, at + 8), \
                            FIRST(x, y, at + 12))
#define PAIR(x, y, i) i, i + 1, 16 + i, 17 + i
#define PAIRS(x, y, at) \
    __builtin_shufflevector(x, y, PAIR(x, y, at), PAIR(x, y, at + 4), PAIR(x, y, at + 8), \
                            PAIR(x, y, at + 12))
    Lanes ab = BOTH(a, b, 0) + BOTH(a, b, 2), cd = BOTH(c, d, 0) + BOTH(c, d, 2);
    return quartered(PAIRS(ab, cd, 0) + PAIRS(ab, cd, 2));
}

INLINE float sum(Lanes x) { return four_sums(x, x, x, x)[0]; }

/* What is asked for meanwhile: every `every` sixteen features a line of the cache from one place, or
   from each of two, since the processor itself runs ahead in a page that is read in order. */
typedef struct {
    const char *from; /* 0: nothing */
    int64_t apart;    /* bytes between the two places; 0: one */
    int every;
} Ahead;

/* y[i, j] = onto[i, j] + x[i] . w[j] for `rows` x and `outs` w of `inputs` features each, both counts
   known when this is compiled; `onto` 0 is nothing, else laid out as y. Features `at` .. `at` + 15
   of row i of x stand at x + at * along + i * apart; beyond the last there are zeros, unless `whole`,
   when rows are not longer than their features. */
INLINE void tile(int rows, int outs, int whole, const float *x, int64_t along, int64_t apart,
                 const float *w, const float *onto, float *y, int64_t inputs, int64_t stride,
                 Ahead ahead) {
    Lanes sums[MOST_ROWS][MOST_OUTS];
#pragma unroll
    for (int i = 0; i < rows; i++)
#pragma unroll
        for (int j = 0; j < outs; j++) sums[i][j] = (Lanes){0};
    int64_t at = 0;
    int due = 0;
    for (; at + LANES <= inputs; at += LANES) {
        if (ahead.from && ++due == ahead.every) {
            due = 0;
            __builtin_prefetch(ahead.from, 0, 2);
            if (ahead.apart) __builtin_prefetch(ahead.from + ahead.apart, 0, 2);
            ahead.from += LINE;
        }
        Lanes right[MOST_OUTS];
#pragma unroll
        for (int j = 0; j < outs; j++) right[j] = loaded(w + j * inputs + at);
#pragma unroll
        for (int i = 0; i < rows; i++) {
            Lanes left = loaded(x + at * along + i * apart);
#pragma unroll
            for (int j = 0; j < outs; j++) sums[i][j] += left * right[j];
        }
    }
    if (at < inputs) {
        Lanes right[MOST_OUTS];
#pragma unroll
        for (int j = 0; j < outs; j++) right[j] = loaded_some(w + j * inputs + at, inputs - at);
#pragma unroll
        for (int i = 0; i < rows; i++) {
            const float *place = x + at * along + i * apart;
            Lanes left = whole ? loaded_some(place, inputs - at) : loaded(place);
#pragma unroll
            for (int j = 0; j < outs; j++) sums[i][j] += left * right[j];
        }
    }
#pragma unroll
    for (int i = 0; i < rows; i++)
        if (outs == MOST_OUTS) {
            Quarter found = four_sums(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
            if (onto) found = *(const QuarterAnywhere *)(onto + i * stride) + found;
            *(QuarterAnywhere *)(y + i * stride) = found;
        } else
#pragma unroll
            for (int j = 0; j < outs; j++) {
                float found = sum(sums[i][j]);
                y[i * stride + j] = onto ? onto[i * stride + j] + found : found;
            }
}

#define EACH_COUNT(rows, CALL) \
    switch (rows) { \
    case 1: CALL(1); break; \
    case 2: CALL(2); break; \
    case 3: CALL(3); break; \
    case 4: CALL(4); break; \
    case 5: CALL(5); break; \
    case 6: CALL(6); break; \
    }

/* The same for 1 to MOST_ROWS rows, known only now, which lie one after another. */
INLINE void tile_of(int rows, int outs, const float *x, const float *w, const float *onto, float *y,
                    int64_t inputs, int64_t stride, Ahead ahead) {
#define TILE(n) tile(n, outs, 1, x, 1, inputs, w, onto, y, inputs, stride, ahead)
    EACH_COUNT(rows, TILE)
#undef TILE
}

/* The same for rows of which sixteen features at a time lie one after another. */
INLINE void packed_tile_of(int rows, int outs, const float *x, const float *w, const float *onto,
                           float *y, int64_t inputs, int64_t stride, Ahead ahead) {
#define TILE(n) tile(n, outs, 0, x, n, LANES, w, onto, y, inputs, stride, ahead)
    EACH_COUNT(rows, TILE)
#undef TILE
}
