/* Products of many rows, sixteen outputs to a register (AVX-512): rows of the kernel become columns
   of a panel, and each input of some rows of x is multiplied with the same of a panel. A sum over the
   inputs has one order, whatever is multiplied beside it: running sums over up to RUN of them. */
#include "kernels.h"

#if defined(__AVX512F__)
#include "lanes.h"
#include "scratch.h"
#include "team.h"
#include "wide.h"
#include <stdatomic.h>

enum {
    ROWS = 14,              /* of x that are multiplied together */
    WIDE = 2,               /* registers of outputs that they meet */
    PANEL = WIDE * LANES,   /* rows of the kernel in a panel */
    RUN = 576,              /* most inputs at a time: after each run y is read and written */
    AHEAD = 16,             /* inputs between what is multiplied and what the first cache asks for */
    SHARE = 512 * 1024,     /* most bytes of panels that a thread makes, for the second cache */
    FAIR = 2,               /* parts for each thread at the least, if there are so many */
};

typedef struct {
    Product p;
    float *columns; /* x as [block of ROWS, input, SIDE] */
    int64_t run, panels, parts, blocks;
    /* inputs at a time; panels of the kernel, the parts they make, and blocks of x in one */
    atomic_int *failed;
} Job;

static void columns_part(const void *job, int64_t block) {
    const Job *j = job;
    const Product *p = &j->p;
    int64_t first = block * ROWS;
    into_columns(p->x + first * p->inputs, p->inputs, smaller(ROWS, p->rows - first), p->inputs,
                 j->columns + block * p->inputs * SIDE, SIDE);
}

/* y = onto + columns of x . a panel, over some inputs. Meanwhile the caches ask for y, and for as many
   numbers from `ahead` on. */
INLINE void multiply(const float *x, const float *panel, int64_t inputs, const float *onto,
                     float *y, int64_t stride, const float *ahead) {
    Lanes sums[ROWS][WIDE];
#pragma unroll
    for (int i = 0; i < ROWS; i++)
#pragma unroll
        for (int j = 0; j < WIDE; j++) sums[i][j] = (Lanes){0};
    const float *row = y, *past = y + ROWS * stride;
    for (; inputs > 0; inputs -= LANES, ahead += LANES) {
        __builtin_prefetch(ahead, 0, 2);
        if (row < past) {
#pragma unroll
            for (int j = 0; j < WIDE; j++) __builtin_prefetch(row + j * LANES, 1, 3);
            row += stride;
        }
        for (int64_t left = smaller(LANES, inputs); left; left--, x += SIDE, panel += PANEL) {
            Lanes right[WIDE];
            __builtin_prefetch(x + AHEAD * SIDE, 0, 3);
#pragma unroll
            for (int j = 0; j < WIDE; j++)
                __builtin_prefetch(panel + AHEAD * PANEL + j * LANES, 0, 3);
#pragma unroll
            for (int j = 0; j < WIDE; j++) right[j] = loaded(panel + j * LANES);
#pragma unroll
            for (int i = 0; i < ROWS; i++)
#pragma unroll
                for (int j = 0; j < WIDE; j++) sums[i][j] += x[i] * right[j];
        }
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++)
#pragma unroll
        for (int j = 0; j < WIDE; j++) {
            int64_t place = i * stride + j * LANES;
            if (onto) sums[i][j] = loaded(onto + place) + sums[i][j];
            memcpy(y + place, &sums[i][j], sizeof(Lanes));
        }
}

/* The same where y has fewer rows or columns. */
static void multiply_at_edge(const float *x, const float *panel, int64_t inputs, const float *onto,
                             float *y, int64_t stride, int64_t rows, int64_t outs,
                             const float *ahead) {
    float sums[ROWS * PANEL] = {0};
    size_t size = (size_t)outs * sizeof(float);
    if (onto)
        for (int64_t i = 0; i < rows; i++) memcpy(sums + i * PANEL, onto + i * stride, size);
    multiply(x, panel, inputs, onto ? sums : 0, sums, PANEL, ahead);
    for (int64_t i = 0; i < rows; i++) memcpy(y + i * stride, sums + i * PANEL, size);
}

/* The row of the kernel that begins a part, or ends the last one: larger parts come first. */
static int64_t first_row(const Job *j, int64_t part) {
    int64_t panel = part * (j->panels / j->parts) + smaller(part, j->panels % j->parts);
    return smaller(panel * PANEL, j->p.outs);
}

/* Some rows of the kernel with some of x, a run of inputs after the other. */
static void panels_part(const void *job, int64_t part) {
    const Job *j = job;
    const Product *p = &j->p;
    int64_t own = part % j->parts, out = first_row(j, own), end = first_row(j, own + 1);
    int64_t first = part / j->parts * j->blocks * ROWS, last = first + j->blocks * ROWS;
    int64_t size = j->run * PANEL, count = (end - out + PANEL - 1) / PANEL;
    float *panels = scratch(PART, (size_t)(count * size) * sizeof(float));
    if (!panels) {
        atomic_store(j->failed, 1);
        return;
    }
    for (int64_t at = 0; at < p->inputs; at += j->run) {
        int64_t run = smaller(j->run, p->inputs - at);
        for (int64_t side = 0; side < end - out; side += SIDE)
            into_columns(p->kernel + (out + side) * p->inputs + at, p->inputs,
                 smaller(SIDE, end - out - side), run,
                 panels + side / PANEL * size + side % PANEL, PANEL);
        /* What is read next: another run of this part, or the part that is likely to follow. */
        int64_t next = own, from = at + run;
        if (from == p->inputs) next = (own + team_size()) % j->parts, from = 0;
        int64_t coming = first_row(j, next), past = first_row(j, next + 1);
        for (int64_t row = first; row < smaller(last, p->rows); row += ROWS)
            for (int64_t panel = 0; panel < count; panel++) {
                const float *x = j->columns + (row / ROWS * p->inputs + at) * SIDE;
                const float *w = panels + panel * size, *onto = p->onto;
                int64_t place = row * p->outs + out + panel * PANEL;
                int64_t rows = smaller(ROWS, p->rows - row);
                int64_t outs = smaller(PANEL, end - out - panel * PANEL);
                const float *ahead = p->kernel + smaller(coming++, past - 1) * p->inputs + from;
                if (at || onto) onto = (at ? p->y : onto) + place;
                if (rows == ROWS && outs == PANEL)
                    multiply(x, w, run, onto, p->y + place, p->outs, ahead);
                else
                    multiply_at_edge(x, w, run, onto, p->y + place, p->outs, rows, outs, ahead);
            }
    }
}

int has_panels(void) { return 1; }

int panel_product(const Product *p) {
    if (!p->rows || !p->outs) return 1;
    int64_t runs = (p->inputs + RUN - 1) / RUN, run = (p->inputs + runs - 1) / runs;
    int64_t blocks = (p->rows + ROWS - 1) / ROWS, team = team_size();
    int64_t panels = (p->outs + PANEL - 1) / PANEL;
    int64_t most = SHARE / (run * PANEL * (int64_t)sizeof(float)); /* panels in a part */
    int64_t parts = ((panels - 1) / most / team + 1) * team;
    parts = smaller(panels, larger(parts, FAIR * team));
    int64_t shares = smaller((FAIR * team - 1) / parts + 1, blocks);
    atomic_int failed = 0;
    Job job = {*p, 0, run, panels, parts, (blocks - 1) / shares + 1, &failed};
    job.columns = scratch(JOB, (size_t)(blocks * p->inputs * SIDE) * sizeof(float));
    if (!job.columns) return 0;
    together(columns_part, &job, blocks);
    together(panels_part, &job, parts * ((blocks - 1) / job.blocks + 1));
    return !failed;
}

#else

int has_panels(void) { return 0; }
int panel_product(const Product *p) { return 0; }

#endif
