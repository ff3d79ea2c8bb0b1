/* What this library computes, in float32, row-major throughout. */
#pragma once
#include <stdint.h>

/* x [rows, inputs], kernel [outs, inputs] -> y [rows, outs] */
void product(const float *x, const float *kernel, float *y, int64_t rows, int64_t inputs,
             int64_t outs);

/* The same for many rows, on a processor with a matrix unit that the system lets this process use,
   which `has_tiles` asks for. Zero when memory cannot be had, else one. */
int has_tiles(void);
int tiled_product(const float *x, const float *kernel, float *y, int64_t rows, int64_t inputs,
                  int64_t outs);

/* The same for 8-bit whole numbers, and at most `whole_rows` rows. Zero when memory cannot be had,
   else one. */
int64_t whole_rows(void);
int whole_product(const int8_t *x, const int8_t *kernel, float *y, int64_t rows, int64_t inputs,
                  int64_t outs);

typedef struct {
    const float *x;       /* [rows, count] */
    const int32_t *token; /* [rows] */
    float *peak, *mass, *weighted;
    int32_t *rank;
    int64_t rows, count;
} Moments;

/* Of each row its largest number, the sum of e ^ (x - peak), the sum of that times (x - peak), and
   the place of its token, 1 for the largest number, the first of equals first. */
void moments(const Moments *job);

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
