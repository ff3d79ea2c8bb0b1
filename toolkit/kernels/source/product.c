/* x [rows, inputs] times kernel [outs, inputs], transposed: every row of the kernel with every row
   of x. A kernel is read from memory once, and its next rows are asked for while the present ones
   meet the rows of x. */
#include "kernels.h"
#include "lanes.h"
#include "team.h"

enum {
    PANEL = 8,         /* rows of the kernel that meet all rows of a block in turn */
    BLOCK = 192,       /* rows of x that stay near the core meanwhile */
    PART = 256 * 1024, /* most weights that a thread takes at one time */
    AHEAD = 8192,      /* bytes between what is multiplied and what is asked for, with few rows */
};

typedef struct {
    const float *x, *kernel;
    float *y;
    int64_t rows, inputs, outs, share; /* share: rows of the kernel in a part */
} Product;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Few rows of x: the kernel in the order in which it lies in memory, one row of it at a time. */
static void stream(const Product *p, int64_t out, int64_t end) {
    for (; out < end; out++) {
        const float *kernel = p->kernel + out * p->inputs;
        tile_of((int)p->rows, 1, p->x, kernel, p->y + out, p->inputs, p->outs,
                (const char *)kernel + AHEAD, MOST_OUTS);
    }
}

/* A panel of the kernel with up to BLOCK rows of x, in groups of nearly equal size. The next panel
   is asked for in equal parts by the groups. */
static void panel(const Product *p, int64_t row, int64_t rows, int64_t out, int64_t end) {
    int64_t groups = (rows + MOST_ROWS - 1) / MOST_ROWS;
    for (int64_t group = 0; group < groups; group++) {
        int64_t from = row + rows * group / groups, to = row + rows * (group + 1) / groups;
        int fresh = row == 0 && end + PANEL <= p->outs;
        int share = fresh ? (int)groups : 0;
        const float *x = p->x + from * p->inputs;
        float *y = p->y + from * p->outs;
        int64_t j = out;
        for (; j + MOST_OUTS <= end; j += MOST_OUTS) {
            const float *kernel = p->kernel + j * p->inputs;
            const float *ahead =
                kernel + PANEL * p->inputs + MOST_OUTS * p->inputs * group / groups;
            tile_of((int)(to - from), MOST_OUTS, x, kernel, y + j, p->inputs, p->outs,
                    (const char *)ahead, share);
        }
        for (; j < end; j++)
            tile_of((int)(to - from), 1, x, p->kernel + j * p->inputs, y + j, p->inputs, p->outs, 0,
                    0);
    }
}

static void product_part(const void *job, int64_t part) {
    const Product *p = job;
    int64_t from = part * p->share, to = smaller(from + p->share, p->outs);
    if (p->rows <= MOST_ROWS) {
        stream(p, from, to);
        return;
    }
    for (int64_t row = 0; row < p->rows; row += BLOCK)
        for (int64_t out = from; out < to; out += PANEL)
            panel(p, row, smaller(BLOCK, p->rows - row), out, smaller(out + PANEL, to));
}

void product(const float *x, const float *kernel, float *y, int64_t rows, int64_t inputs,
             int64_t outs) {
    int64_t turns = outs * inputs / (PART * team_size()) + 1;
    if (rows > MOST_ROWS) turns *= 4; /* bound by the cores, so that waiting for one costs more */
    int64_t parts = turns * team_size(), share = ((outs - 1) / parts / PANEL + 1) * PANEL;
    Product job = {x, kernel, y, rows, inputs, outs, share};
    together(product_part, &job, (outs - 1) / share + 1);
}
