/* Every row of the kernel with every row of x. A kernel is read from memory once, and its next rows
   are asked for while the present ones meet the rows of x. */
#include "kernels.h"
#include "lanes.h"
#include "scratch.h"
#include "team.h"

enum {
    PANEL = 8,          /* rows of the kernel that meet all rows of a block in turn */
    BLOCK = 192,        /* rows of x that stay near the core meanwhile */
    SHARE = 256 * 1024, /* most weights that a thread takes at one time */
    AHEAD = 8192,       /* bytes between what is multiplied and what is asked for, with few rows */
};

typedef struct {
    Product p;
    float *packed; /* x in groups of up to MOST_ROWS rows, [input / LANES, row, LANES] each */
    int64_t width; /* numbers of a row there */
    int64_t share; /* rows of the kernel in a part */
} Job;

typedef struct {
    int64_t from, to;
} Rows;

static int64_t groups_in(int64_t rows) { return (rows + MOST_ROWS - 1) / MOST_ROWS; }

/* The rows of one of some groups of nearly equal size. */
static Rows group_of(int64_t first, int64_t rows, int64_t group, int64_t groups) {
    return (Rows){first + rows * group / groups, first + rows * (group + 1) / groups};
}

/* Places in what the product is added to, if there is such a thing. */
static const float *placed(const Product *p, int64_t row, int64_t out) {
    return p->onto ? p->onto + row * p->outs + out : 0;
}

/* Few rows of x: the kernel in the order in which it lies in memory, one row of it at a time. */
static void stream(const Product *p, int64_t out, int64_t end) {
    for (; out < end; out++) {
        const float *kernel = p->kernel + out * p->inputs;
        Ahead ahead = {(const char *)kernel + AHEAD, 0, 1};
        tile_of((int)p->rows, 1, p->x, kernel, placed(p, 0, out), p->y + out, p->inputs, p->outs,
                ahead);
    }
}

static void pack_part(const void *job, int64_t block) {
    const Job *j = job;
    const Product *p = &j->p;
    int64_t first = block * BLOCK, rows = smaller(BLOCK, p->rows - first);
    for (int64_t group = 0; group < groups_in(rows); group++) {
        Rows own = group_of(first, rows, group, groups_in(rows));
        for (int64_t row = own.from; row < own.to; row++)
            for (int64_t at = 0; at < p->inputs; at += LANES) {
                Lanes some = loaded_some(p->x + row * p->inputs + at, smaller(LANES, p->inputs - at));
                float *to = j->packed + own.from * j->width + at * (own.to - own.from);
                memcpy(to + (row - own.from) * LANES, &some, sizeof some);
            }
    }
}

/* A panel of the kernel with a block of rows of x, group by group, which ask for the next panel in
   equal parts. */
static void panel(const Job *j, int64_t first, int64_t rows, int64_t out, int64_t end) {
    const Product *p = &j->p;
    int64_t groups = groups_in(rows), turns = groups * PANEL / MOST_OUTS;
    int64_t apart = PANEL * p->inputs * (int64_t)sizeof(float) / 2;
    const char *next = (const char *)(p->kernel + (out + PANEL) * p->inputs);
    int ask = first == 0 && end + PANEL <= p->outs;
    for (int64_t group = 0; group < groups; group++) {
        Rows own = group_of(first, rows, group, groups);
        int count = (int)(own.to - own.from);
        const float *x = j->packed + own.from * j->width;
        float *y = p->y + own.from * p->outs;
        int64_t row = out;
        for (; row + MOST_OUTS <= end; row += MOST_OUTS) {
            int64_t turn = group * PANEL / MOST_OUTS + (row - out) / MOST_OUTS;
            Ahead ahead = {ask ? next + apart * turn / turns : 0, apart,
                           (int)(turns * 2 / PANEL)};
            packed_tile_of(count, MOST_OUTS, x, p->kernel + row * p->inputs,
                           placed(p, own.from, row), y + row, p->inputs, p->outs, ahead);
        }
        for (; row < end; row++)
            packed_tile_of(count, 1, x, p->kernel + row * p->inputs, placed(p, own.from, row),
                           y + row, p->inputs, p->outs, (Ahead){0});
    }
}

static void product_part(const void *job, int64_t part) {
    const Job *j = job;
    const Product *p = &j->p;
    int64_t from = part * j->share, to = smaller(from + j->share, p->outs);
    if (p->rows <= MOST_ROWS) {
        stream(p, from, to);
        return;
    }
    for (int64_t first = 0; first < p->rows; first += BLOCK)
        for (int64_t out = from; out < to; out += PANEL)
            panel(j, first, smaller(BLOCK, p->rows - first), out, smaller(out + PANEL, to));
}

int product(const Product *p) {
    int64_t turns = p->outs * p->inputs / (SHARE * team_size()) + 1;
    if (p->rows > MOST_ROWS) turns *= 4; /* bound by the cores, so that waiting for one costs more */
    int64_t parts = turns * team_size(), width = (p->inputs + LANES - 1) / LANES * LANES;
    Job job = {*p, 0, width, ((p->outs - 1) / parts / PANEL + 1) * PANEL};
    if (p->rows > MOST_ROWS) {
        job.packed = scratch(JOB, (size_t)(p->rows * width) * sizeof(float));
        if (!job.packed) return 0;
        together(pack_part, &job, (p->rows - 1) / BLOCK + 1);
    }
    together(product_part, &job, (p->outs - 1) / job.share + 1);
    return 1;
}
