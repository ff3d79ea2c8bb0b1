/* What this library computes, in float32, row-major throughout. */
#pragma once
#include <stdint.h>

typedef struct {
    const float *x, *kernel; /* [rows, inputs], [outs, inputs] */
    const float *onto;       /* as y, what the product is added to; 0: nothing */
    float *y;                /* [rows, outs] */
    int64_t rows, inputs, outs;
} Product;

/* y = onto + x times the kernel, transposed. Zero when memory cannot be had, else one. */
int product(const Product *job);

/* The same for many rows, by the processor's matrix unit or by panels, where it has either. It has the
   unit once the system, which `ask_for_tiles` asks, lets this process use it. Up to `few_rows` rows
   `product` is as quick. */
void ask_for_tiles(void);
int has_tiles(void);
int has_panels(void);
int has_many(void);
int64_t few_rows(void);
int many_product(const Product *job);
int tiled_product(const Product *job);
int panel_product(const Product *job);

/* The same with a kernel of 8-bit whole numbers, times scale [outs], and x rounded to two of those;
   up to `rounded_rows` rows it is quicker than XLA. Zero when memory cannot be had, else one. */
int64_t rounded_rows(void);
int rounded_product(const float *x, const int8_t *kernel, const float *scale, float *y,
                    int64_t rows, int64_t inputs, int64_t outs);

typedef struct {
    const float *x;       /* [rows, count] */
    const int32_t *token; /* [rows] */
    float *peak, *norm, *entropy;
    int32_t *rank;
    int64_t rows, count;
} Moments;

/* Of each row its largest number, the log of the sum of e ^ (x - peak), the entropy of what is
   distributed so, and the place of its token, 1 for the largest number, the first of equals first. */
void moments(const Moments *job);

enum { MOST_LARGEST = 64 };

typedef struct {
    const float *x;          /* [rows, count] */
    const int32_t *wanted;   /* [rows] whether anybody asks */
    float *values;           /* [rows, most] in order, the first of equals first; zeros where nobody
                                asks */
    int32_t *ids;            /* [rows, most] where they are */
    int64_t rows, count, most;
} Largest;

/* The largest numbers of each row, up to MOST_LARGEST of them, and no more than there are. */
void largest(const Largest *job);
void largest_of_row(const float *x, int64_t count, int64_t most, float *values, int32_t *ids);

typedef struct {
    const float *logits;     /* [rows, count] */
    const int32_t *touched;  /* [rows] whether there is anything to do */
    const int32_t *ids;      /* [rows, biased] negative ones are none */
    const float *values;     /* [rows, biased] what is added to them */
    const float *penalties;  /* [rows, 3] repetition, frequency, presence */
    const uint8_t *prompted; /* [rows, count] whether an id occurs in the prompt */
    const int32_t *counts;   /* [rows, count] how often it was generated */
    const int32_t *node;     /* [rows] of the guide; 0: free */
    const int32_t *first, *allowed;
    /* node n of `nodes` allows the ids allowed[first[n]] .. allowed[first[n + 1] - 1]; a row that
       nobody has may stand at a node that is no more, which is free */
    const int32_t *early;    /* [rows] whether stop ids are held back */
    const int32_t *stops;    /* [rows, stopping] negative ones are none */
    int64_t rows, count, nodes, biased, stopping;
} Edit;

/* A row of logits after bias, penalties, guide and holding back. There is room for `held_size`
   numbers in `held`. */
int64_t held_size(const Edit *job);
void edit_row(const Edit *job, int64_t row, float *edited, float *held);

/* What the penalties take off a token's logit after bias; 0 where it is minus infinity. */
float penalty_of(const Edit *job, int64_t row, int32_t token);

/* All rows, [rows, count]. Zero when memory cannot be had, else one. */
int edit(const Edit *job, float *edited);

/* counts[i, token[i]] += more[i] for each row, [rows, count]; tokens that are no ids are left out. */
void count_tokens(int32_t *counts, const int32_t *token, const int32_t *more, int64_t rows,
                  int64_t count);

enum { GIVEN = 10, FOUND = 12, IDS = 7 };

typedef struct {
    Edit edit;
    const float *given;
    /* [rows, GIVEN] one over temperature, 0 for 0; top_k, top_p, min_p, typical_p, log of min_p,
       two uniforms, whether entropy, support and share are wanted, and whether leaders are */
    const int32_t *asked; /* [rows, asking] some ids */
    float *found;
    /* [rows, FOUND] the largest logit; keys of the edge after temperature, top_k, top_p and min_p,
       and of the edge around the centre; the centre; the log of the mass of what is kept; its
       entropy, and the share of the logits' own mass that is kept; the token after temperature; what
       the penalties took off it */
    int32_t *ids;  /* [rows, IDS] the token; the ids of those five edges; how many are kept */
    float *legal;  /* [rows, asking] the logits of the ids asked for, edited */
    float *leaders;      /* [rows, leading] the largest of what is kept, after temperature; minus
                            infinity for what is not */
    int32_t *leader_ids; /* [rows, leading] */
    int64_t asking, leading;
} Draw;

/* A token of each row, from its edited logits, and what truncation left of the row. Zero when memory
   cannot be had, else one. */
int draw(const Draw *job);

typedef struct {
    const float *tokens;         /* [batch, length, both * group + 2 * both, width] queries, keys,
                                    values of new tokens */
    float *keys, *values;        /* [batch * both, slots, width] which they enter */
    const int32_t *start;        /* [batch] position, and slot, of each row's first token */
    const int32_t *source, *shared;
    /* [batch] the row in which each row's first slots may be read, how many of them; they hold the
       same numbers in both */
    const float *cosine, *sine;  /* [batch, length, turning] */
    float *mixed;                /* [batch, length, both * group, width] */
    int64_t batch, both, group, length, slots, width, turning;
    /* `group` query heads share each of `both` key/value heads; the first `turning` features of
       queries and keys turn by their position */
    float scale, cap; /* cap 0: none */
    int64_t window;   /* 0: none */
} Attention;

/* Each query's mixture of the values in the slots up to its own position, when the new tokens are in
   the cache. Zero when memory cannot be had, else one. */
int attention(const Attention *job);

typedef struct {
    const float *x, *scale; /* [rows, count], [count] */
    float *y;               /* as x */
    int64_t rows, count;
    float epsilon, offset;
} Norm;

/* y = x / sqrt(mean(x ^ 2) + epsilon) * (offset + scale), row by row. */
void norm(const Norm *job);

typedef struct {
    const float *x; /* [rows, 2 * count] a row's gate, and beside it what it lets through */
    float *y;       /* [rows, count] */
    int64_t rows, count;
} Gate;

/* y = silu(gate) * up, and silu(x) = x / (1 + e ^ -x). */
void gate(const Gate *job);
