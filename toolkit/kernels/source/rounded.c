/* x [rows, inputs] times a kernel [outs, inputs], transposed, of 8-bit whole numbers, each row of
   which has a scale. A row of x becomes two rows of whole numbers and a step: its digits, of which
   the second is worth 1/254 of the first. Their sums are exact. The formula is that of
   toolkit/models/int8.py, to the bit. */
#include "kernels.h"
#include "lanes.h"
#include "scratch.h"
#include "team.h"

enum {
    SHARE = 1024 * 1024, /* most weights that a thread takes at one time */
    BLOCK = 8,          /* rows of x whose digits one thread finds, since they lie together */
    LEVELS = 127,
    BASE = 2 * LEVELS,
};
#define TINY 1e-30f /* peak of a row of zeros */

typedef int8_t Bytes __attribute__((vector_size(16), aligned(1)));
typedef int32_t Wholes __attribute__((vector_size(64)));

typedef struct {
    const float *x, *scale;
    const int8_t *kernel;
    float *y, *steps; /* steps: [rows] what a first digit is worth */
    char *digits;     /* in the form that the products take */
    int64_t rows, inputs, outs, share; /* share: rows of the kernel in a part */
} Job;

/* Space for the digits of all rows, and where 16 of them go: of digit 0 or 1 of a row, from input
   `at` on, which are zeros beyond the last. Sums of a part of the kernel. What follows differs with
   the processor. */
static int64_t digits_size(const Job *p);
INLINE void put(const Job *p, int64_t row, int digit, int64_t at, Bytes digits);
static void product_part(const void *job, int64_t part);

INLINE Wholes bits_of(Lanes x) {
    Wholes bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Rounds each number to the nearest whole one, halves to the even one; the same as bytes. What is no
   number is 0 there. */
INLINE Bytes rounded(Lanes *x) {
    const Lanes magic = (Lanes){0} + 12582912.0f; /* 1.5 * 2^23: its last bits are the sum's */
    Lanes moved = *x + magic;
    *x = moved - magic;
    return __builtin_convertvector(bits_of(moved), Bytes);
}

INLINE Lanes from(const float *x, int64_t at, int64_t end) {
    return at + LANES <= end ? loaded(x + at) : loaded_some(x + at, at < end ? end - at : 0);
}

/* The largest size in a row; no number if one is none. */
static float peak_of(const float *x, int64_t inputs) {
    Wholes largest = {0};
    for (int64_t at = 0; at < inputs; at += LANES) {
        Wholes size = bits_of(from(x, at, inputs)) & INT32_MAX;
        Wholes more = size > largest;
        largest = (size & more) | (largest & ~more);
    }
    int32_t bits = 0;
    for (int lane = 0; lane < LANES; lane++) bits = largest[lane] > bits ? largest[lane] : bits;
    float peak;
    memcpy(&peak, &bits, sizeof peak);
    return peak;
}

static void digits_of(const Job *p, int64_t row) {
    const float *x = p->x + row * p->inputs;
    float peak = peak_of(x, p->inputs), step = (peak < TINY ? TINY : peak) * (1.0f / LEVELS);
    float per_step = 1.0f / step;
    p->steps[row] = step;
    for (int64_t at = 0; at < p->inputs; at += LANES) {
        Lanes scaled = from(x, at, p->inputs) * per_step, whole = scaled;
        put(p, row, 0, at, rounded(&whole));
        Lanes rest = scaled - whole;
        rest = rest * (float)BASE;
        put(p, row, 1, at, rounded(&rest));
    }
}

static void digits_part(const void *job, int64_t block) {
    const Job *p = job;
    for (int64_t row = block * BLOCK; row < p->rows && row < (block + 1) * BLOCK; row++)
        digits_of(p, row);
}

int rounded_product(const float *x, const int8_t *kernel, const float *scale, float *y,
                    int64_t rows, int64_t inputs, int64_t outs) {
    Job job = {x, scale, kernel, y, 0, 0, rows, inputs, outs, 0};
    int64_t parts = (outs * inputs / (SHARE * team_size()) + 1) * team_size();
    job.share = ((outs - 1) / parts / LANES + 1) * LANES;
    job.digits = scratch(JOB, (size_t)digits_size(&job) + (size_t)rows * sizeof(float));
    if (!job.digits) return 0;
    job.steps = (float *)(job.digits + digits_size(&job));
    together(digits_part, &job, (rows - 1) / BLOCK + 1);
    together(product_part, &job, (outs - 1) / job.share + 1);
    return 1;
}

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include "wide.h"
#if defined(__AMX_INT8__) && defined(__linux__)
#define TILES
#endif

/* Eight rows of x make a block: their first digits and their second ones are its 16 columns, of
   which four inputs lie together, as the processor takes them. A panel of 16 rows of the kernel
   meets one block after the other. Columns without a row hold anything, and are not kept. */
enum { WORD = 4, STEP = 64, BLOCKS = 4, MANY = 64 };

static int64_t block_size(const Job *p) { return (p->inputs + STEP - 1) / STEP * STEP * SIDE; }

static int64_t digits_size(const Job *p) {
    return (p->rows + BLOCK - 1) / BLOCK * block_size(p);
}

#ifdef TILES
/* found[i, j] = columns of block i . row j of a panel, for up to BLOCKS blocks of `size` bytes. With
   `ahead` the next panel is asked for. */
static void tile_dots(int blocks, const char *columns, int64_t size, const int8_t *w,
                      int64_t stride, int64_t inputs, int ahead, __m512i found[BLOCKS][SIDE]) {
    const char *next = (const char *)(w + SIDE * stride);
    _tile_zero(0), _tile_zero(1), _tile_zero(2), _tile_zero(3);
    for (int64_t at = 0; at < inputs; at += STEP) {
        const char *from = columns + at * SIDE;
        if (ahead)
            for (int line = 0; line < SIDE; line++)
                __builtin_prefetch(next + at * SIDE + line * LINE, 0, 2);
        _tile_loadd(4, w + at, stride);
        _tile_loadd(5, from, STEP), _tile_dpbssd(0, 4, 5);
        if (blocks > 1) _tile_loadd(6, from + size, STEP), _tile_dpbssd(1, 4, 6);
        if (blocks > 2) _tile_loadd(5, from + 2 * size, STEP), _tile_dpbssd(2, 4, 5);
        if (blocks > 3) _tile_loadd(6, from + 3 * size, STEP), _tile_dpbssd(3, 4, 6);
    }
    _tile_stored(0, found[0], STEP), _tile_stored(1, found[1], STEP);
    _tile_stored(2, found[2], STEP), _tile_stored(3, found[3], STEP);
}
#else
static void tile_dots(int blocks, const char *columns, int64_t size, const int8_t *w,
                      int64_t stride, int64_t inputs, int ahead, __m512i found[BLOCKS][SIDE]) {}
#endif

/* Any number with tiles; without, XLA is as quick with more. */
int64_t rounded_rows(void) { return has_tiles() ? INT32_MAX : MANY; }

/* Tiles take inputs in whole steps. */
static int tiled(const Job *p) { return has_tiles() && p->inputs % STEP == 0; }

/* Without tiles the processor multiplies bytes with a sign by bytes without one: a digit comes with
   128 added, and 128 times the kernel's own sums are taken off again. */
INLINE void put(const Job *p, int64_t row, int digit, int64_t at, Bytes digits) {
    char *to = p->digits + row / BLOCK * block_size(p) + at * SIDE;
    Bytes raised = tiled(p) ? digits : digits ^ (Bytes)_mm_set1_epi8(-128);
    for (int word = 0; word < LANES / WORD; word++)
        memcpy(to + (word * SIDE + digit * BLOCK + row % BLOCK) * WORD,
               (const char *)&raised + word * WORD, WORD);
}

/* 128 times the sum of each row of a panel. */
static __m512i excess_of(const int8_t *w, int64_t stride, int64_t inputs) {
    __m512i found[SIDE];
    for (int j = 0; j < SIDE; j++) found[j] = _mm512_setzero_si512();
    for (int64_t at = 0; at < inputs; at += STEP) {
        __mmask64 there = inputs - at < STEP ? ((__mmask64)1 << (inputs - at)) - 1 : ~(__mmask64)0;
#pragma unroll
        for (int j = 0; j < SIDE; j++)
            found[j] = _mm512_dpbusd_epi32(found[j], _mm512_set1_epi8(1),
                                           _mm512_maskz_loadu_epi8(there, w + j * stride + at));
    }
    transpose(found);
    __m512i sum = found[0];
    for (int j = 1; j < SIDE; j++) sum = _mm512_add_epi32(sum, found[j]);
    return _mm512_slli_epi32(sum, 7);
}

INLINE __m512i word_of(const int8_t *w, int64_t count) {
    int32_t word = 0;
    memcpy(&word, w, (size_t)count);
    return _mm512_set1_epi32(word);
}

/* found[j] = a block's columns . row j of a panel. With `ahead` the next panel is asked for. */
static void dots(const char *columns, const int8_t *w, int64_t stride, int64_t inputs, int ahead,
                 __m512i found[SIDE]) {
    __m512i sums[SIDE];
    for (int j = 0; j < SIDE; j++) sums[j] = _mm512_setzero_si512();
    const char *next = (const char *)(w + SIDE * stride);
    int64_t at = 0;
    for (; at + WORD <= inputs; at += WORD) {
        __m512i numbers = _mm512_load_si512(columns + at * SIDE);
        if (ahead) __builtin_prefetch(next + at * SIDE, 0, 2);
#pragma unroll
        for (int j = 0; j < SIDE; j++)
            sums[j] = _mm512_dpbusd_epi32(sums[j], numbers, word_of(w + j * stride + at, WORD));
    }
    if (at < inputs)
        for (int j = 0; j < SIDE; j++)
            sums[j] = _mm512_dpbusd_epi32(sums[j], _mm512_load_si512(columns + at * SIDE),
                                          word_of(w + j * stride + at, inputs - at));
    memcpy(found, sums, sizeof sums);
}

/* The sums of a block's columns with a panel that begins at `out`, to their places in y. */
static void finish(const Job *p, int64_t row, int64_t out, __mmask16 kept, __m512i excess,
                   __m512i found[SIDE]) {
    int64_t rows = p->rows - row < BLOCK ? p->rows - row : BLOCK;
    __m512 scale = _mm512_maskz_loadu_ps(kept, p->scale + out);
    transpose(found);
    for (int64_t i = 0; i < rows; i++) {
        __m512 high = _mm512_cvtepi32_ps(_mm512_sub_epi32(found[i], excess));
        __m512 low = _mm512_cvtepi32_ps(_mm512_sub_epi32(found[BLOCK + i], excess));
        __m512 both = _mm512_fmadd_ps(low, _mm512_set1_ps(1.0f / BASE), high);
        both = _mm512_mul_ps(_mm512_mul_ps(both, _mm512_set1_ps(p->steps[row + i])), scale);
        _mm512_mask_storeu_ps(p->y + (row + i) * p->outs + out, kept, both);
    }
}

/* The last panel begins 16 rows before the end, and keeps the new ones of these. A kernel of fewer
   rows is taken one by one, each in the place of 16. */
static void product_part(const void *job, int64_t part) {
    const Job *p = job;
    int64_t from = part * p->share, end = from + p->share < p->outs ? from + p->share : p->outs;
    int tiles = tiled(p), most = tiles ? BLOCKS : 1;
    if (tiles) open_tiles();
    int64_t width = p->outs < SIDE ? 1 : SIDE, stride = p->outs < SIDE ? 0 : p->inputs;
    for (; from < end; from += width) {
        int64_t out = from < p->outs - width ? from : p->outs - width;
        __mmask16 kept = (__mmask16)(((1u << width) - 1) << (from - out));
        const int8_t *w = p->kernel + out * p->inputs;
        __m512i found[BLOCKS][SIDE], excess = tiles ? (__m512i){0} : excess_of(w, stride, p->inputs);
        for (int64_t row = 0; row < p->rows; row += most * BLOCK) {
            int64_t left = (p->rows - row + BLOCK - 1) / BLOCK;
            int blocks = left < most ? (int)left : most;
            const char *columns = p->digits + row / BLOCK * block_size(p);
            if (tiles)
                tile_dots(blocks, columns, block_size(p), w, stride, p->inputs, row == 0, found);
            else
                dots(columns, w, stride, p->inputs, row == 0, found[0]);
            for (int i = 0; i < blocks; i++)
                finish(p, row + i * BLOCK, out, kept, excess, found[i]);
        }
    }
    if (tiles) close_tiles();
}

#else

/* As floats: in a lane a sum is exact, since it stays below 2^24 for up to 16,000 inputs. The lanes
   are added as whole numbers. */
enum { AHEAD = 4096 }; /* bytes between what is multiplied and what is asked for */

int64_t rounded_rows(void) { return MOST_ROWS / 2; }

static int64_t padded(int64_t inputs) { return (inputs + LANES - 1) / LANES * LANES; }

static int64_t digits_size(const Job *p) {
    return 2 * p->rows * padded(p->inputs) * (int64_t)sizeof(float);
}

INLINE void put(const Job *p, int64_t row, int digit, int64_t at, Bytes digits) {
    Lanes numbers = __builtin_convertvector(digits, Lanes);
    float *to = (float *)p->digits + (2 * row + digit) * padded(p->inputs) + at;
    memcpy(to, &numbers, sizeof numbers);
}

/* The `count` weights from `at` on, at most LANES of them, and zeros. */
INLINE Lanes weights(const int8_t *at, int64_t count) {
    Bytes bytes = {0};
    memcpy(&bytes, at, (size_t)count);
    return __builtin_convertvector(bytes, Lanes);
}

INLINE float whole_sum(Lanes even, Lanes odd) {
    Wholes both = __builtin_convertvector(even, Wholes) + __builtin_convertvector(odd, Wholes);
    int32_t sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += both[lane];
    return (float)sum;
}

/* One row of the kernel with `count` rows of digits; two sums each, because one would wait for
   itself. */
INLINE void dots(int count, const float *digits, const int8_t *w, int64_t inputs, float *found) {
    Lanes even[MOST_ROWS], odd[MOST_ROWS];
#pragma unroll
    for (int i = 0; i < count; i++) even[i] = odd[i] = (Lanes){0};
    int64_t at = 0;
    for (; at + 2 * LANES <= inputs; at += 2 * LANES) {
        __builtin_prefetch(w + at + AHEAD, 0, 2);
        Lanes first = weights(w + at, LANES), second = weights(w + at + LANES, LANES);
#pragma unroll
        for (int i = 0; i < count; i++) {
            even[i] += loaded(digits + i * padded(inputs) + at) * first;
            odd[i] += loaded(digits + i * padded(inputs) + at + LANES) * second;
        }
    }
    for (; at < inputs; at += LANES) {
        Lanes last = weights(w + at, inputs - at < LANES ? inputs - at : LANES);
#pragma unroll
        for (int i = 0; i < count; i++) even[i] += loaded(digits + i * padded(inputs) + at) * last;
    }
#pragma unroll
    for (int i = 0; i < count; i++) found[i] = whole_sum(even[i], odd[i]);
}

static void product_part(const void *job, int64_t part) {
    const Job *p = job;
    int64_t out = part * p->share, end = out + p->share < p->outs ? out + p->share : p->outs;
    for (; out < end; out++) {
        const int8_t *w = p->kernel + out * p->inputs;
        for (int64_t first = 0; first < p->rows; first += MOST_ROWS / 2) {
            const float *digits = (const float *)p->digits + 2 * first * padded(p->inputs);
            int64_t left = p->rows - first;
            float found[MOST_ROWS];
            switch (left < MOST_ROWS / 2 ? left : MOST_ROWS / 2) {
            case 1: dots(2, digits, w, p->inputs, found); break;
            case 2: dots(4, digits, w, p->inputs, found); break;
            case 3: dots(6, digits, w, p->inputs, found); break;
            }
            for (int64_t i = 0; i < MOST_ROWS / 2 && i < left; i++) {
                float both = found[2 * i] + found[2 * i + 1] * (1.0f / BASE);
                p->y[(first + i) * p->outs + out] = both * p->steps[first + i] * p->scale[out];
            }
        }
    }
}

#endif
