/* Products of many rows by the processor's matrix unit (Intel AMX), which multiplies bfloat16 only.
   Each float32 is the sum of three of those, to 24 bits; of the nine products of two such sums the
   six largest are added, in float32. What is left out is below a rounding (Henry et al. 2019, arXiv
   1904.06376). The sum over the inputs has one order, whatever is multiplied beside it.

   A number that bfloat16 takes for infinite, beyond 3.389e38, makes the sums it is in none; the third
   part of one below 1e-30 may be lost. */
#include "kernels.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#include "lanes.h"
#include "scratch.h"
#include "team.h"
#include "wide.h"
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    STEP = 32,           /* inputs of a tile */
    TILE = SIDE * STEP,  /* numbers in a tile of inputs */
    PIECES = 3,          /* bfloat16 numbers that make one float32 */
    PAIR = 2 * SIDE,     /* rows, and columns, that are multiplied together */
    PANEL = 1000 * 1024, /* most bytes of a part of the kernel, which stays in the second cache */
    PERMISSION = 0x1023, /* of Linux: ARCH_REQ_XCOMP_PERM */
    TILE_DATA = 18,      /* of Linux: XFEATURE_XTILEDATA */
};

typedef __bf16 Piece;

typedef struct {
    Product p;
    Piece *split; /* x as tiles [row tile, step, piece, row, input] */
    int64_t steps, share;
    /* share: rows of the kernel in a part */
    atomic_int *failed;
} Job;

static atomic_int allowed;

void ask_for_tiles(void) {
    if (syscall(SYS_arch_prctl, PERMISSION, TILE_DATA) == 0) atomic_store(&allowed, 1);
}

int has_tiles(void) { return atomic_load(&allowed); }

/* `count` numbers as three times 32 pieces, with zeros beyond the last. */
INLINE void split(const float *from, int64_t count, __m512i pieces[PIECES]) {
    uint32_t mask = count < STEP ? (1u << count) - 1 : ~0u;
    __m512 a = _mm512_maskz_loadu_ps((__mmask16)mask, from);
    __m512 b = _mm512_maskz_loadu_ps((__mmask16)(mask >> SIDE), from + SIDE);
    for (int piece = 0; piece < PIECES; piece++) {
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(b, a);
        __m256i low = _mm512_castsi512_si256(both), high = _mm512_extracti64x4_epi64(both, 1);
        a = _mm512_sub_ps(a, (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(low), 16));
        b = _mm512_sub_ps(b, (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
        pieces[piece] = both;
    }
}

/* A pair of x's row tiles; zeros beyond the last row. */
static void rows_part(const void *job, int64_t part) {
    const Job *j = job;
    const Product *p = &j->p;
    for (int64_t row = part * PAIR; row < (part + 1) * PAIR; row++) {
        Piece *to = j->split + row / SIDE * j->steps * PIECES * TILE + row % SIDE * STEP;
        for (int64_t step = 0; step < j->steps; step++, to += PIECES * TILE) {
            const float *from = p->x + row * p->inputs + step * STEP;
            __m512i pieces[PIECES] = {0};
            if (row < p->rows) split(from, p->inputs - step * STEP, pieces);
            for (int piece = 0; piece < PIECES; piece++)
                _mm512_store_si512(to + piece * TILE, pieces[piece]);
        }
    }
}

/* Some rows of the kernel as tiles in which a row is a column, [tile, step, piece, pair of inputs,
   row, 2]; zeros beyond the last row. */
static void columns(const Job *j, int64_t out, int64_t tiles, Piece *to) {
    const Product *p = &j->p;
    for (int64_t tile = 0; tile < tiles; tile++, out += SIDE)
        for (int64_t step = 0; step < j->steps; step++) {
            __m512i made[PIECES][SIDE];
            for (int i = 0; i < SIDE; i++) {
                const float *from = p->kernel + (out + i) * p->inputs + step * STEP;
                __m512i pieces[PIECES] = {0};
                if (out + i < p->outs) split(from, p->inputs - step * STEP, pieces);
                for (int line = 0; line < STEP; line += SIDE)
                    __builtin_prefetch(from + SIDE * p->inputs + line, 0, 2);
                for (int piece = 0; piece < PIECES; piece++) made[piece][i] = pieces[piece];
            }
            for (int piece = 0; piece < PIECES; piece++, to += TILE) {
                transpose(made[piece]);
                memcpy(to, made[piece], sizeof made[piece]);
            }
        }
}

/* y = x . kernel, for a pair of tiles of each. */
INLINE void multiply(const Piece *x, const Piece *kernel, int64_t steps, float *y,
                     int64_t stride) {
    int64_t other = steps * PIECES * TILE, line = stride * (int64_t)sizeof(float);
    float *lower = y + SIDE * stride;
#define ROWS(piece) \
    _tile_loadd(4, x + piece * TILE, LINE), _tile_loadd(5, x + other + piece * TILE, LINE)
#define COLUMNS(piece) \
    _tile_loadd(6, kernel + piece * TILE, LINE), _tile_loadd(7, kernel + other + piece * TILE, LINE)
#define ADD() \
    _tile_dpbf16ps(0, 4, 6), _tile_dpbf16ps(1, 4, 7), _tile_dpbf16ps(2, 5, 6), \
        _tile_dpbf16ps(3, 5, 7)
    _tile_zero(0), _tile_zero(1), _tile_zero(2), _tile_zero(3);
    for (int64_t step = 0; step < steps; step++, x += PIECES * TILE, kernel += PIECES * TILE) {
        ROWS(0), COLUMNS(2), ADD();
        COLUMNS(1), ADD();
        ROWS(1), ADD();
        COLUMNS(0), ADD();
        ROWS(2), ADD();
        ROWS(0), ADD();
    }
    _tile_stored(0, y, line), _tile_stored(1, y + SIDE, line);
    _tile_stored(2, lower, line), _tile_stored(3, lower + SIDE, line);
}

/* The same where y has fewer rows or columns. */
static void multiply_at_edge(const Piece *x, const Piece *kernel, int64_t steps, float *y,
                             int64_t stride, int64_t rows, int64_t outs) {
    float sums[PAIR * PAIR] __attribute__((aligned(LINE)));
    multiply(x, kernel, steps, sums, PAIR);
    for (int64_t i = 0; i < rows; i++)
        memcpy(y + i * stride, sums + i * PAIR, sizeof(float) * (size_t)outs);
}

static void add(const float *onto, float *y, int64_t stride, int64_t rows, int64_t outs) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < outs; j++) y[i * stride + j] += onto[i * stride + j];
}

static void tiled_part(const void *job, int64_t part) {
    const Job *j = job;
    const Product *p = &j->p;
    int64_t from = part * j->share, to = smaller(from + j->share, p->outs);
    int64_t tiles = (to - from + PAIR - 1) / PAIR * 2, length = j->steps * PIECES * TILE;
    Piece *panel = scratch(PART, (size_t)(tiles * length) * sizeof(Piece));
    if (!panel) {
        atomic_store(j->failed, 1);
        return;
    }
    columns(j, from, tiles, panel);
    open_tiles();
    for (int64_t row = 0; row < p->rows; row += PAIR)
        for (int64_t out = from; out < to; out += PAIR) {
            const Piece *x = j->split + row / SIDE * length;
            const Piece *kernel = panel + (out - from) / SIDE * length;
            int64_t rows = smaller(PAIR, p->rows - row), outs = smaller(PAIR, to - out);
            float *y = p->y + row * p->outs + out;
            if (rows == PAIR && outs == PAIR)
                multiply(x, kernel, j->steps, y, p->outs);
            else
                multiply_at_edge(x, kernel, j->steps, y, p->outs, rows, outs);
            if (p->onto) add(p->onto + row * p->outs + out, y, p->outs, rows, outs);
        }
    close_tiles();
}

int tiled_product(const Product *p) {
    int64_t steps = (p->inputs + STEP - 1) / STEP, pairs = (p->rows + PAIR - 1) / PAIR;
    int64_t most = PANEL / (steps * PIECES * TILE * 2) / 2 * PAIR;
    int64_t fair = ((p->outs - 1) / (2 * team_size()) / PAIR + 1) * PAIR;
    int64_t share = most < PAIR ? PAIR : smaller(most, fair);
    size_t size = (size_t)(pairs * 2 * steps * PIECES * TILE) * sizeof(Piece);
    atomic_int failed = 0;
    Job job = {*p, scratch(JOB, size), steps, share, &failed};
    if (!job.split) return 0;
    together(rows_part, &job, pairs);
    together(tiled_part, &job, (p->outs - 1) / share + 1);
    return !failed;
}

#else

void ask_for_tiles(void) {}
int has_tiles(void) { return 0; }
int tiled_product(const Product *p) { return 0; }

#endif
