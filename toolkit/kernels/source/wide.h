/* Sixteen registers of sixteen numbers each (AVX-512), and the tiles of a matrix unit (AMX), where
   the processor has them. */
#pragma once
#include "lanes.h"
#include <immintrin.h>

enum { SIDE = 16 }; /* rows of a tile; of a result also its columns */

/* Rows become columns. */
INLINE void transpose(__m512i r[SIDE]) {
    __m512i t[SIDE];
    for (int i = 0; i < SIDE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < SIDE; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

/* Up to SIDE rows of `width` numbers, `stride` apart, as columns that are `step` apart; zeros for rows
   that are not there. */
INLINE void into_columns(const float *from, int64_t stride, int64_t rows, int64_t width, float *to,
                         int64_t step) {
    for (int64_t at = 0; at < width; at += SIDE, to += SIDE * step) {
        int64_t count = smaller(SIDE, width - at);
        __mmask16 there = (__mmask16)((1u << count) - 1);
        __m512i r[SIDE];
#pragma unroll
        for (int i = 0; i < SIDE; i++)
            r[i] = _mm512_maskz_loadu_epi32(i < rows ? there : 0, from + i * stride + at);
        transpose(r);
#pragma unroll
        for (int i = 0; i < SIDE; i++)
            if (i < count) _mm512_storeu_si512(to + i * step, r[i]);
    }
}

#if defined(__AMX_TILE__)
/* All tiles are of 16 rows of 64 bytes. */
INLINE void open_tiles(void) {
    struct {
        uint8_t palette, start, zero[14];
        uint16_t width[16];
        uint8_t rows[16];
    } __attribute__((packed)) tiles = {.palette = 1};
    for (int i = 0; i < 8; i++) tiles.width[i] = LINE, tiles.rows[i] = SIDE;
    _tile_loadconfig(&tiles);
}

INLINE void close_tiles(void) { _tile_release(); }
#else
INLINE void open_tiles(void) {}
INLINE void close_tiles(void) {}
#endif
