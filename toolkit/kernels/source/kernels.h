/* What this library computes, in float32, row-major throughout. */
#pragma once
#include <stdint.h>

/* x [rows, inputs], kernel [outs, inputs] -> y [rows, outs] */
void product(const float *x, const float *kernel, float *y, int64_t rows, int64_t inputs,
             int64_t outs);

/* The same with a kernel of 8-bit whole numbers, times scale [outs], and x rounded to two of those:
   at most `rounded_rows` rows. Zero when memory cannot be had, else one. */
int64_t rounded_rows(void);
int rounded_product(const float *x, const int8_t *kernel, const float *scale, float *y,
                    int64_t rows, int64_t inputs, int64_t outs);

typedef struct {
    const float *queries;       /* [batch * both, queries of a head's group, width] */
    const float *keys, *values; /* [batch * both, slots, width] */
    const int32_t *start;       /* [batch] position of each row's first query */
    float *mixed;               /* as the queries */
    int64_t batch, both, group, length, slots, width;
    /* `group` query heads share each of `both` key/value heads; `length` queries in each */
    float scale, cap; /* cap 0: none */
    int64_t window;   /* 0: none */
} Attention;

/* Each query's mixture of the values in the slots up to its own position. Zero when memory for the
   scores cannot be had, else one. */
int attention(const Attention *job);
