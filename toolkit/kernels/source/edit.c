/* Bias and penalties of `toolkit.sampling.transforms`: a copy of the logits in which a few are other
   numbers. */
#include "kernels.h"
#include "exponential.h"
#include "team.h"

typedef uint8_t Flags __attribute__((vector_size(16), aligned(1)));

/* Sixteen logits after the penalties. */
INLINE Lanes penalised(Lanes x, Whole count, Whole prompted, const float *penalties) {
    const float repetition = penalties[0], frequency = penalties[1], presence = penalties[2];
    const Lanes none = {0};
    if (repetition != 1) {
        Lanes scaled = chosen(x > 0, x / repetition, x * repetition);
        x = chosen((prompted != 0) | (count > 0), scaled, x);
    }
    x -= __builtin_convertvector(count, Lanes) * frequency;
    return x - chosen(count > 0, none + presence, none);
}

static void edit_part(const void *job, int64_t row) {
    const Edit *e = job;
    const float *penalties = e->penalties + row * 3;
    const int32_t *counts = e->counts + (e->first + row) * e->count;
    const uint8_t *prompted = e->prompted + (e->first + row) * e->count;
    float *x = e->edited + row * e->count;
    memcpy(x, e->logits + row * e->count, (size_t)e->count * sizeof(float));
    for (int64_t i = row * e->biased; i < (row + 1) * e->biased; i++)
        if (e->ids[i] >= 0 && e->ids[i] < e->count) x[e->ids[i]] += e->values[i];
    if (penalties[0] == 1 && penalties[1] == 0 && penalties[2] == 0) return;
    for (int64_t at = 0; at < e->count; at += LANES) {
        int64_t some = e->count - at < LANES ? e->count - at : LANES;
        Whole count = {0};
        Flags flags = {0};
        if (some == LANES) {
            memcpy(&count, counts + at, sizeof count), memcpy(&flags, prompted + at, sizeof flags);
        } else {
            memcpy(&count, counts + at, (size_t)some * sizeof(int32_t));
            memcpy(&flags, prompted + at, (size_t)some);
        }
        Whole seen = __builtin_convertvector(flags, Whole);
        if (!__builtin_reduce_or(count | seen)) continue;
        Lanes after = penalised(loaded_some(x + at, some), count, seen, penalties);
        memcpy(x + at, &after, (size_t)some * sizeof(float));
    }
}

void edit(const Edit *job) { together(edit_part, job, job->rows); }
