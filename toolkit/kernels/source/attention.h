/* What both ways of attention share: of a few queries, and of a prompt's. */
#pragma once
#include "exponential.h"
#include "kernels.h"
#include <stdatomic.h>

typedef struct {
    Attention a;
    float *queries; /* [batch, both, group, length, width] turned */
    int64_t blocks; /* of queries in a head */
    atomic_int *failed;
} Reading;

/* The last slot that a query of a key/value head sees, and the first one. */
INLINE int64_t last_seen(const Attention *a, int64_t batch, int64_t query) {
    return smaller(a->start[batch] + query % a->length, a->slots - 1);
}

INLINE int64_t first_seen(const Attention *a, int64_t last) {
    return a->window ? larger(0, last - a->window + 1) : 0;
}

/* Where what a query of a key/value head has read goes. */
INLINE float *place_of(const Attention *a, int64_t batch, int64_t head, int64_t query) {
    int64_t token = batch * a->length + query % a->length;
    int64_t own = head * a->group + query / a->length;
    return a->mixed + (token * a->both * a->group + own) * a->width;
}

/* Whether many queries side by side are quicker on this processor, how many those are, and a block
   of them. */
int reads_side_by_side(void);
int64_t side_by_side(void);
void side_by_side_part(const void *job, int64_t part);
