/* The norm of a row by its root mean square. A row's bits depend on nothing beside it. */
#include "kernels.h"
#include "lanes.h"
#include "team.h"
#include <math.h>

enum { PART = 16 * 1024 }; /* numbers that one thread takes at a time */

typedef struct {
    Norm n;
    int64_t share; /* rows in a part */
} Job;

static void row_of(const Norm *n, int64_t row) {
    const float *x = n->x + row * n->count, *scale = n->scale, offset = n->offset;
    float *restrict y = n->y + row * n->count;
    Lanes squares = {0};
    int64_t at = 0, count = n->count;
    for (; at + LANES <= count; at += LANES) squares += loaded(x + at) * loaded(x + at);
    if (at < count) {
        Lanes rest = loaded_some(x + at, count - at);
        squares += rest * rest;
    }
    float factor = 1 / sqrtf(sum(squares) / (float)count + n->epsilon);
    for (at = 0; at < count; at++) y[at] = x[at] * factor * (offset + scale[at]);
}

static void norm_part(const void *job, int64_t part) {
    const Job *j = job;
    int64_t end = (part + 1) * j->share;
    for (int64_t row = part * j->share; row < end && row < j->n.rows; row++) row_of(&j->n, row);
}

void norm(const Norm *n) {
    Job job = {*n, PART / n->count + 1};
    together(norm_part, &job, (n->rows - 1) / job.share + 1);
}
