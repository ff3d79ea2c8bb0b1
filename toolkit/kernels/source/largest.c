/* The largest numbers of a row, in one reading: most of them are not larger than the last of those
   that are held. */
#include "kernels.h"
#include "exponential.h"
#include "team.h"

typedef struct {
    float value[MOST_LARGEST];
    int32_t id[MOST_LARGEST];
    int64_t count;
} Held;

/* Put a number behind those that are at least as large; the last one falls out beyond `most`. */
static void insert(Held *held, float value, int32_t id, int64_t most) {
    int64_t at = held->count < most ? held->count++ : most - 1;
    for (; at > 0 && held->value[at - 1] < value; at--)
        held->value[at] = held->value[at - 1], held->id[at] = held->id[at - 1];
    held->value[at] = value, held->id[at] = id;
}

void largest_of_row(const float *x, int64_t count, int64_t most, float *values, int32_t *ids) {
    Held held = {.count = 0};
    int64_t at = 0;
    for (; at < most; at++) insert(&held, x[at], (int32_t)at, most);
    for (; at + LANES <= count; at += LANES) {
        Whole larger = loaded(x + at) > held.value[most - 1];
        if (!__builtin_reduce_or(larger)) continue;
        for (int64_t i = at; i < at + LANES; i++)
            if (x[i] > held.value[most - 1]) insert(&held, x[i], (int32_t)i, most);
    }
    for (; at < count; at++)
        if (x[at] > held.value[most - 1]) insert(&held, x[at], (int32_t)at, most);
    memcpy(values, held.value, (size_t)most * sizeof(float));
    memcpy(ids, held.id, (size_t)most * sizeof(int32_t));
}

static void largest_part(const void *job, int64_t row) {
    const Largest *l = job;
    float *values = l->values + row * l->most;
    int32_t *ids = l->ids + row * l->most;
    size_t size = (size_t)l->most * sizeof(float);
    if (l->wanted[row])
        largest_of_row(l->x + row * l->count, l->count, l->most, values, ids);
    else
        memset(values, 0, size), memset(ids, 0, size);
}

void largest(const Largest *job) { together(largest_part, job, job->rows); }
