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
    Quarter p = quartered(a), q = quartered(b), r = quartered(c), s = quartered(d);
    Quarter ab = __builtin_shufflevector(p, q, 0, 1, 4, 5) + __builtin_shufflevector(p, q, 2, 3, 6, 7);
    Quarter cd = __builtin_shufflevector(r, s, 0, 1, 4, 5) + __builtin_shufflevector(r, s, 2, 3, 6, 7);
    return __builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7);
}

INLINE float sum(Lanes x) { return four_sums(x, x, x, x)[0]; }

/* y[i, j] = x[i] . w[j] for `rows` x and `outs` w of `inputs` features each, both counts known when
   this is compiled. Meanwhile 4 / `share` lines of the cache are asked for each sixteen features,
   from `ahead` on; none if `share` is 0. */
INLINE void tile(int rows, int outs, const float *x, const float *w, float *y, int64_t inputs,
                 int64_t stride, const char *ahead, int share) {
    Lanes sums[MOST_ROWS][MOST_OUTS];
#pragma unroll
    for (int i = 0; i < rows; i++)
#pragma unroll
        for (int j = 0; j < outs; j++) sums[i][j] = (Lanes){0};
    int64_t at = 0;
    int due = 0;
    for (; at + LANES <= inputs; at += LANES) {
        if (share)
            for (due += MOST_OUTS; due >= share; due -= share, ahead += LINE)
                __builtin_prefetch(ahead, 0, 2);
        Lanes right[MOST_OUTS];
#pragma unroll
        for (int j = 0; j < outs; j++) right[j] = loaded(w + j * inputs + at);
#pragma unroll
        for (int i = 0; i < rows; i++) {
            Lanes left = loaded(x + i * inputs + at);
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
            Lanes left = loaded_some(x + i * inputs + at, inputs - at);
#pragma unroll
            for (int j = 0; j < outs; j++) sums[i][j] += left * right[j];
        }
    }
#pragma unroll
    for (int i = 0; i < rows; i++)
        if (outs == MOST_OUTS)
            *(QuarterAnywhere *)(y + i * stride) =
                four_sums(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
        else
#pragma unroll
            for (int j = 0; j < outs; j++) y[i * stride + j] = sum(sums[i][j]);
}

/* The same for 1 to MOST_ROWS rows, known only now. */
INLINE void tile_of(int rows, int outs, const float *x, const float *w, float *y, int64_t inputs,
                    int64_t stride, const char *ahead, int share) {
    switch (rows) {
    case 1: tile(1, outs, x, w, y, inputs, stride, ahead, share); break;
    case 2: tile(2, outs, x, w, y, inputs, stride, ahead, share); break;
    case 3: tile(3, outs, x, w, y, inputs, stride, ahead, share); break;
    case 4: tile(4, outs, x, w, y, inputs, stride, ahead, share); break;
    case 5: tile(5, outs, x, w, y, inputs, stride, ahead, share); break;
    case 6: tile(6, outs, x, w, y, inputs, stride, ahead, share); break;
    }
}
