/* x [rows, inputs] of whole numbers times an 8-bit kernel [outs, inputs], transposed, for few rows.
   The sums are of whole numbers in floats: in a lane they are exact, since they stay below 2^24 for
   kernels of up to 16,000 inputs. */
#include "kernels.h"
#include "lanes.h"
#include "team.h"

enum {
    PART = 1024 * 1024, /* most weights that a thread takes at one time */
    AHEAD = 4096,       /* bytes between what is multiplied and what is asked for */
};

typedef int8_t Bytes __attribute__((vector_size(16), aligned(1)));

typedef struct {
    const float *x;
    const int8_t *kernel;
    float *y;
    int64_t rows, inputs, outs, share; /* share: rows of the kernel in a part */
} Product;

/* The `count` weights from `at` on, at most LANES of them, and zeros. */
INLINE Lanes weights(const int8_t *at, int64_t count) {
    Bytes bytes = {0};
    memcpy(&bytes, at, (size_t)count);
    return __builtin_convertvector(bytes, Lanes);
}

/* One row of the kernel with all rows of x; two sums each, because one would wait for itself. */
INLINE void dots(int rows, const float *x, const int8_t *w, float *y, int64_t inputs,
                 int64_t stride) {
    Lanes even[MOST_ROWS], odd[MOST_ROWS];
#pragma unroll
    for (int i = 0; i < rows; i++) even[i] = odd[i] = (Lanes){0};
    int64_t at = 0;
    for (; at + 2 * LANES <= inputs; at += 2 * LANES) {
        __builtin_prefetch(w + at + AHEAD, 0, 2);
        Lanes first = weights(w + at, LANES), second = weights(w + at + LANES, LANES);
#pragma unroll
        for (int i = 0; i < rows; i++) {
            even[i] += loaded(x + i * inputs + at) * first;
            odd[i] += loaded(x + i * inputs + at + LANES) * second;
        }
    }
    for (; at < inputs; at += LANES) {
        int64_t count = inputs - at < LANES ? inputs - at : LANES;
        Lanes last = weights(w + at, count);
#pragma unroll
        for (int i = 0; i < rows; i++) even[i] += loaded_some(x + i * inputs + at, count) * last;
    }
#pragma unroll
    for (int i = 0; i < rows; i++) y[i * stride] = sum(even[i] + odd[i]);
}

static void whole_part(const void *job, int64_t part) {
    const Product *p = job;
    int64_t out = part * p->share, end = out + p->share < p->outs ? out + p->share : p->outs;
    for (; out < end; out++) {
        const int8_t *w = p->kernel + out * p->inputs;
        switch (p->rows) {
        case 1: dots(1, p->x, w, p->y + out, p->inputs, p->outs); break;
        case 2: dots(2, p->x, w, p->y + out, p->inputs, p->outs); break;
        case 3: dots(3, p->x, w, p->y + out, p->inputs, p->outs); break;
        case 4: dots(4, p->x, w, p->y + out, p->inputs, p->outs); break;
        case 5: dots(5, p->x, w, p->y + out, p->inputs, p->outs); break;
        case 6: dots(6, p->x, w, p->y + out, p->inputs, p->outs); break;
        }
    }
}

void whole_product(const float *x, const int8_t *kernel, float *y, int64_t rows, int64_t inputs,
                   int64_t outs) {
    int64_t parts = (outs * inputs / (PART * team_size()) + 1) * team_size();
    Product job = {x, kernel, y, rows, inputs, outs, (outs - 1) / parts + 1};
    together(whole_part, &job, (outs - 1) / job.share + 1);
}
