/* What this library computes, in float32, row-major throughout. */
#pragma once
#include <stdint.h>

/* x [rows, inputs], kernel [outs, inputs] -> y [rows, outs] */
void product(const float *x, const float *kernel, float *y, int64_t rows, int64_t inputs,
             int64_t outs);

/* The same for many rows, where `has_tiles`: on a processor with a matrix unit, once the system,
   which `ask_for_tiles` asks, lets this process use it. Elsewhere it is the same. Zero when memory
   cannot be had, else one. */
void ask_for_tiles(void);
int has_tiles(void);
int tiled_product(const float *x, const float *kernel, float *y, int64_t rows, int64_t inputs,
                  int64_t outs);

/* The same with a kernel of 8-bit whole numbers, times scale [outs], and x rounded to two of those;
   up to `rounded_rows` rows it is quicker than XLA. Zero when memory cannot be had, else one. */
int64_t rounded_rows(void);
int rounded_product(const float *x, const int8_t *kernel, const float *scale, float *y,
                    int64_t rows, int64_t inputs, int64_t outs);

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
    const float *logits;     /* [rows, count] */
    const int32_t *ids;      /* [rows, biased] negative ones are none */
    const float *values;     /* [rows, biased] what is added to them */
    const float *penalties;  /* [rows, 3] repetition, frequency, presence */
    const uint8_t *prompted; /* [.., count] whether an id occurs in the prompt */
    const int32_t *counts;   /* [.., count] how often it was generated */
    float *edited;           /* [rows, count] */
    int64_t rows, count, biased, first;
    /* first: the row of `prompted` and `counts` that goes with the first one */
} Edit;

/* The logits after bias and penalties. */
void edit(const Edit *job);

enum { GIVEN = 8, FOUND = 8, IDS = 6 };

typedef struct {
    const float *logits; /* [rows, count] */
    const float *given;
    /* [rows, GIVEN] one over temperature, 0 for 0; top_k, top_p, min_p, typical_p, log of min_p,
       two uniforms */
    float *found;
    /* [rows, FOUND] the largest logit; keys of the edge after temperature, top_k, top_p and min_p,
       and of the edge around the centre; the centre; the mass of what is kept */
    int32_t *ids; /* [rows, IDS] the token; the ids of those five edges */
    int64_t rows, count;
} Draw;

/* A token of each row, and what truncation left of the row. Zero when memory cannot be had, else
   one. */
int draw(const Draw *job);

typedef struct {
    const float *queries;       /* [batch * both, queries of a head's group, width] */
    const float *keys, *values; /* [batch * both, slots, width] */
    const int32_t *start;       /* [batch] position of each row's first query */
    const int32_t *source, *shared;
    /* [batch] the row in which each row's first slots are read, how many of them; they hold the
       same numbers in both */
    float *mixed;               /* as the queries */
    int64_t batch, both, group, length, slots, width;
    /* `group` query heads share each of `both` key/value heads; `length` queries in each */
    float scale, cap; /* cap 0: none */
    int64_t window;   /* 0: none */
} Attention;

/* Each query's mixture of the values in the slots up to its own position. Zero when memory for the
   scores cannot be had, else one. */
int attention(const Attention *job);
