/* x [rows, inputs] times a kernel [outs, inputs], transposed, both of 8-bit whole numbers, for few
   rows. The sums are exact. */
#include "kernels.h"
#include "lanes.h"
#include "team.h"
#include <stdlib.h>

enum { PART = 1024 * 1024 }; /* most weights that a thread takes at one time */

typedef struct {
    const void *x; /* in the form that the products take */
    const int8_t *kernel;
    float *y;
    int64_t rows, inputs, outs, share; /* share: rows of the kernel in a part */
} Product;

static void shared_out(Work work, Product *job) {
    int64_t parts = (job->outs * job->inputs / (PART * team_size()) + 1) * team_size();
    job->share = (job->outs - 1) / parts + 1;
    together(work, job, (job->outs - 1) / job->share + 1);
}

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include <immintrin.h>

/* The processor multiplies 64 pairs of bytes at a time, one of each pair without a sign: a number of
   x comes with 128 added to it, and the kernel's own sums, 128 times, are taken off again. */
enum { STEP = 64, TOGETHER = 4, MANY = 64 };

int64_t whole_rows(void) { return MANY; }

static int64_t padded(int64_t inputs) { return (inputs + STEP - 1) / STEP * STEP; }

/* The sums of four registers of 32-bit numbers. */
INLINE __m128i sums(const __m512i x[TOGETHER]) {
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(x[0], x[1]),
                                 _mm512_unpackhi_epi32(x[0], x[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(x[2], x[3]),
                                 _mm512_unpackhi_epi32(x[2], x[3]));
    __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    __m256i d = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
}

/* Four rows of the kernel with `rows` of x; `excess` is what 128 adds to each sum. With `ahead` the
   next four rows of the kernel are asked for. */
INLINE void dots(int rows, const uint8_t *x, const int8_t *const w[TOGETHER], int64_t inputs,
                 __m128i excess, int ahead, float *y, int64_t across, __mmask8 kept) {
    __m512i found[TOGETHER][TOGETHER];
#pragma unroll
    for (int i = 0; i < rows; i++)
#pragma unroll
        for (int j = 0; j < TOGETHER; j++) found[i][j] = _mm512_setzero_si512();
    for (int64_t at = 0; at < inputs; at += STEP) {
        __mmask64 there = inputs - at < STEP ? ((__mmask64)1 << (inputs - at)) - 1 : ~(__mmask64)0;
        __m512i weights[TOGETHER];
#pragma unroll
        for (int j = 0; j < TOGETHER; j++) {
            weights[j] = _mm512_maskz_loadu_epi8(there, w[j] + at);
            if (ahead) __builtin_prefetch(w[j] + at + TOGETHER * inputs, 0, 2);
        }
#pragma unroll
        for (int i = 0; i < rows; i++) {
            __m512i numbers = _mm512_loadu_si512(x + i * padded(inputs) + at);
#pragma unroll
            for (int j = 0; j < TOGETHER; j++)
                found[i][j] = _mm512_dpbusd_epi32(found[i][j], numbers, weights[j]);
        }
    }
#pragma unroll
    for (int i = 0; i < rows; i++)
        _mm_mask_storeu_ps(y + i * across, kept,
                           _mm_cvtepi32_ps(_mm_sub_epi32(sums(found[i]), excess)));
}

INLINE __m128i excess_of(const int8_t *const w[TOGETHER], int64_t inputs) {
    __m512i found[TOGETHER] = {0};
    for (int64_t at = 0; at < inputs; at += STEP) {
        __mmask64 there = inputs - at < STEP ? ((__mmask64)1 << (inputs - at)) - 1 : ~(__mmask64)0;
        for (int j = 0; j < TOGETHER; j++)
            found[j] = _mm512_dpbusd_epi32(found[j], _mm512_set1_epi8(1),
                                           _mm512_maskz_loadu_epi8(there, w[j] + at));
    }
    return _mm_slli_epi32(sums(found), 7);
}

static void whole_part(const void *job, int64_t part) {
    const Product *p = job;
    int64_t out = part * p->share, end = out + p->share < p->outs ? out + p->share : p->outs;
    for (; out < end; out += TOGETHER) {
        int64_t count = end - out < TOGETHER ? end - out : TOGETHER;
        const int8_t *w[TOGETHER];
        for (int j = 0; j < TOGETHER; j++)
            w[j] = p->kernel + (out + (j < count ? j : count - 1)) * p->inputs;
        __mmask8 kept = (__mmask8)((1 << count) - 1);
        __m128i excess = excess_of(w, p->inputs);
        for (int64_t row = 0; row < p->rows; row += TOGETHER) {
            const uint8_t *x = (const uint8_t *)p->x + row * padded(p->inputs);
            float *y = p->y + row * p->outs + out;
            int ahead = row == 0;
            switch (p->rows - row) {
            case 1: dots(1, x, w, p->inputs, excess, ahead, y, p->outs, kept); break;
            case 2: dots(2, x, w, p->inputs, excess, ahead, y, p->outs, kept); break;
            case 3: dots(3, x, w, p->inputs, excess, ahead, y, p->outs, kept); break;
            default: dots(4, x, w, p->inputs, excess, ahead, y, p->outs, kept);
            }
        }
    }
}

int whole_product(const int8_t *x, const int8_t *kernel, float *y, int64_t rows, int64_t inputs,
                  int64_t outs) {
    uint8_t *raised = malloc(rows * padded(inputs));
    if (!raised) return 0;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < inputs; i++)
            raised[row * padded(inputs) + i] = (uint8_t)(x[row * inputs + i] + 128);
    Product job = {raised, kernel, y, rows, inputs, outs, 0};
    shared_out(whole_part, &job);
    free(raised);
    return 1;
}

#else

/* As floats: in a lane a sum is exact, since it stays below 2^24 for up to 16,000 inputs. The lanes
   are added as whole numbers. */
enum { AHEAD = 4096 }; /* bytes between what is multiplied and what is asked for */

typedef int8_t Bytes __attribute__((vector_size(16), aligned(1)));
typedef int32_t Wholes __attribute__((vector_size(64)));

int64_t whole_rows(void) { return MOST_ROWS; }

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
    for (int i = 0; i < rows; i++) y[i * stride] = whole_sum(even[i], odd[i]);
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

int whole_product(const int8_t *x, const int8_t *kernel, float *y, int64_t rows, int64_t inputs,
                  int64_t outs) {
    float *numbers = malloc(rows * inputs * sizeof(float));
    if (!numbers) return 0;
    for (int64_t i = 0; i < rows * inputs; i++) numbers[i] = x[i];
    Product job = {numbers, kernel, y, rows, inputs, outs, 0};
    shared_out(whole_part, &job);
    free(numbers);
    return 1;
}

#endif
