/* The exponential function of sixteen floats, and what goes with it. */
#pragma once
#include "lanes.h"
#include <math.h>

typedef int32_t Whole __attribute__((vector_size(64)));

INLINE Lanes chosen(Whole mask, Lanes yes, Lanes no) {
    Whole a, b;
    memcpy(&a, &yes, sizeof a);
    memcpy(&b, &no, sizeof b);
    a = (a & mask) | (b & ~mask);
    memcpy(&yes, &a, sizeof yes);
    return yes;
}

/* e to the power x for x <= 0, within two units in the last place; 0 below -87. The method is that
   of Cephes: a whole power of two and a polynomial for the rest. */
INLINE Lanes exponential(Lanes x) {
    const Lanes magic = (Lanes){0} + 12582912.0f; /* 1.5 * 2^23: adding it rounds */
    Lanes power = (x * 1.44269504f + magic) - magic;
    Lanes rest = power * -0.693359375f + x;
    rest = power * 2.12194440e-4f + rest;
    Lanes y = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * rest + 8.3334519073e-3f;
    y = y * rest + 4.1665795894e-2f;
    y = y * rest + 1.6666665459e-1f;
    y = y * rest + 5.0000001201e-1f;
    y = y * (rest * rest) + rest + 1.0f;
    Lanes whole = chosen(x >= -87.0f, power, (Lanes){0}); /* that fits; y tells what is none */
    Whole bits = (__builtin_convertvector(whole, Whole) + 127) << 23;
    Lanes two;
    memcpy(&two, &bits, sizeof two);
    return chosen(x < -87.0f, (Lanes){0}, y * two);
}

INLINE float largest_lane(Lanes x) {
    float best = x[0];
    for (int lane = 1; lane < LANES; lane++) best = x[lane] > best ? x[lane] : best;
    return best;
}
