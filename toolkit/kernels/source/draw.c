/* What of a row of logits may be drawn, and the draw: `toolkit.sampling.truncation` and
   `toolkit.sampling.draw`, a row at a time in the cache near a core. A row's numbers depend on
   nothing beside it. */
#include "kernels.h"
#include "exponential.h"
#include "scratch.h"
#include "team.h"
#include <float.h>
#include <stdatomic.h>

enum {
    BLOCK = 256, /* ids in a block of the draw, and numbers that are added in float32 */
    PROBES = 4,  /* keys that are tried in one reading */
    ROUNDS = 3,  /* of these, before numbers that cannot be the end are dropped */
};

static const float SLACK = 1e-6f; /* relative, of a goal: half the mass may be 0.49999997 */

/* The last number that is kept, in the order of falling key, the lower id first among equals. */
typedef struct {
    float key;
    int32_t id;
} Edge;

/* Some numbers of a row, in the order of their ids; `id` 0: they are 0, 1, 2, ... */
typedef struct {
    const float *key, *mass;
    const int32_t *id;
    int64_t count;
} Numbers;

typedef struct {
    float *edited, *x, *mass, *key, *held; /* of a row; `held` of its blocks */
    float *kept_key, *kept_mass;
    int32_t *kept_id;
} Space;

typedef struct {
    Draw d;
    int64_t parts;
    atomic_int *failed;
} Job;

static const Edge NONE = {-INFINITY, INT32_MAX};

/* Whole numbers in the order of the floats, and back. */
static int32_t order_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits ^ (bits >> 31 & 0x7fffffff);
}

static float float_of(int32_t order) {
    int32_t bits = order ^ (order >> 31 & 0x7fffffff);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The masses of the numbers whose keys are at least as large as each of some. */
static void probe(const Numbers *n, const float least[PROBES], double mass[PROBES]) {
    for (int i = 0; i < PROBES; i++) mass[i] = 0;
    for (int64_t from = 0; from < n->count; from += BLOCK) {
        int64_t to = from + BLOCK < n->count ? from + BLOCK : n->count, at = from;
        Lanes lanes[PROBES] = {0};
        for (; at + LANES <= to; at += LANES) {
            Lanes key = loaded(n->key + at), own = loaded(n->mass + at);
#pragma unroll
            for (int i = 0; i < PROBES; i++) lanes[i] += chosen(key >= least[i], own, (Lanes){0});
        }
        for (int i = 0; i < PROBES; i++) mass[i] += sum(lanes[i]);
        for (; at < to; at++)
            for (int i = 0; i < PROBES; i++) mass[i] += n->key[at] >= least[i] ? n->mass[at] : 0;
    }
}

/* The mass of the numbers whose key is larger. Not by the next larger key: next to 0 it would count
   as 0. */
static double mass_above(const Numbers *n, float key) {
    double mass = 0;
    for (int64_t from = 0; from < n->count; from += BLOCK) {
        int64_t to = from + BLOCK < n->count ? from + BLOCK : n->count, at = from;
        Lanes lanes = {0};
        for (; at + LANES <= to; at += LANES)
            lanes += chosen(loaded(n->key + at) > key, loaded(n->mass + at), (Lanes){0});
        mass += sum(lanes);
        for (; at < to; at++) mass += n->key[at] > key ? n->mass[at] : 0;
    }
    return mass;
}

/* The numbers with keys in low .. high. */
static Numbers within_keys(const Numbers *n, float low, float high, const Space *to) {
    int64_t count = 0;
    for (int64_t at = 0; at < n->count; at += LANES) {
        int64_t end = at + LANES < n->count ? at + LANES : n->count;
        if (end == at + LANES) {
            Lanes key = loaded(n->key + at);
            if (!__builtin_reduce_or((key >= low) & (key <= high))) continue;
        }
        for (int64_t i = at; i < end; i++) {
            if (n->key[i] < low || n->key[i] > high) continue;
            to->kept_key[count] = n->key[i], to->kept_mass[count] = n->mass[i];
            to->kept_id[count++] = n->id ? n->id[i] : (int32_t)i;
        }
    }
    return (Numbers){to->kept_key, to->kept_mass, to->kept_id, count};
}

/* The end of the shortest run of numbers whose mass is at least the goal; none if they do not reach
   it. All keys are at most `most`, which is at most 0. It is bracketed among all numbers, then found
   among the few that are left, by bisection on the bits of the key. */
static Edge smallest(Numbers n, float most, double goal, const Space *space) {
    float low = -INFINITY, high = most, least[PROBES] = {-2, -6, -12, -24};
    double mass[PROBES], above = 0;
    goal = goal > 0 ? goal : DBL_MIN; /* at least one */
    for (int round = 0; round < ROUNDS; round++) {
        probe(&n, least, mass);
        int i = 0;
        while (i < PROBES && mass[i] < goal) i++;
        if (i) high = least[i - 1];
        if (i < PROBES) low = least[i];
        if (low == -INFINITY) break;
        for (i = 0; i < PROBES; i++) least[i] = high + (low - high) * (float)(i + 1) / (PROBES + 1);
    }
    above = mass_above(&n, high);
    n = within_keys(&n, low, high, space);
    int32_t bottom = order_of(low), top = order_of(high);
    while (bottom < top) {
        int32_t middle = (bottom >> 1) + (top >> 1) + ((bottom | top) & 1);
        for (int i = 0; i < PROBES; i++) least[i] = float_of(middle);
        probe(&n, least, mass);
        if (above + mass[0] >= goal)
            bottom = middle;
        else
            top = middle - 1;
    }
    low = float_of(bottom);
    above += mass_above(&n, low);
    n = within_keys(&n, low, low, space);
    if (low == -INFINITY) return NONE;
    Edge edge = {low, INT32_MAX};
    for (int64_t at = 0; at < n.count && (at == 0 || above < goal); at++)
        above += n.mass[at], edge.id = n.id[at];
    return edge;
}

INLINE Edge nearer(Edge a, Edge b) {
    return b.key > a.key || (b.key == a.key && b.id < a.id) ? b : a;
}

/* Lanes that are not behind the edge. */
INLINE Whole keeps(Edge edge, Lanes key, Whole id) {
    return (key > edge.key) | ((key == edge.key) & (id <= edge.id));
}

INLINE Lanes distance(Lanes x, float centre) {
    Lanes away = x - centre;
    return chosen(away > 0, -away, away);
}

/* Logits less the largest, times a factor. The place of the first of those that become 0. */
static int32_t tempered(const float *logits, int64_t count, float factor, float *x,
                        float *peak) {
    Lanes best = (Lanes){0} - INFINITY;
    int64_t at = 0, first = 0;
    for (; at + LANES <= count; at += LANES) {
        Lanes next = loaded(logits + at);
        best = chosen(next > best, next, best);
    }
    float top = largest_lane(best);
    for (; at < count; at++) top = logits[at] > top ? logits[at] : top;
    for (at = 0; at + LANES <= count; at += LANES) {
        Lanes value = (loaded(logits + at) - top) * factor;
        memcpy(x + at, &value, sizeof value);
    }
    for (; at < count; at++) x[at] = (logits[at] - top) * factor;
    while (first < count - 1 && x[first] != 0) first++;
    *peak = top;
    return (int32_t)first;
}

typedef struct {
    Edge edge, near;
    float centre;
} Kept;

INLINE Whole kept_of(Lanes x, Whole id, Kept kept) {
    Whole left = keeps(kept.edge, x, id);
    if (kept.near.key != NONE.key) left &= keeps(kept.near, distance(x, kept.centre), id);
    return left;
}

/* Sixteen of them: e to the power of what is kept, zeros for the rest. */
INLINE Lanes masses_of(Lanes x, Whole id, Kept kept) {
    return chosen(kept_of(x, id, kept), exponential(x), (Lanes){0});
}

/* Sixteen numbers; minus infinity beyond the last. */
INLINE Lanes from(const float *x, int64_t at, int64_t end) {
    if (at + LANES <= end) return loaded(x + at);
    const Whole lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return chosen(lane < (int32_t)(end - at), loaded_some(x + at, end - at), (Lanes){0} - INFINITY);
}

/* The masses of a row; the sums of its blocks, of all, and of all times x. */
static double masses(const float *x, int64_t count, Kept kept, float *mass, float *held,
                     double *weighted) {
    Whole id = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    double total = 0;
    *weighted = 0;
    for (int64_t first = 0; first < count; first += BLOCK) {
        Lanes sums = {0}, products = {0};
        int64_t to = first + BLOCK < count ? first + BLOCK : count;
        for (int64_t at = first; at < to; at += LANES, id += LANES) {
            Lanes value = from(x, at, to), e = masses_of(value, id, kept);
            memcpy(mass + at, &e, (size_t)(to - at < LANES ? to - at : LANES) * sizeof(float));
            sums += e, products += chosen(e > 0, e * value, (Lanes){0});
        }
        total += *held++ = sum(sums), *weighted += sum(products);
    }
    return total;
}

static float running_sum(const float *mass, int64_t count) {
    float sum = 0;
    for (int64_t at = 0; at < count; at++) sum += mass[at];
    return sum;
}

/* The first place with mass whose running sum exceeds the target, or the last with mass. */
static int64_t reached(const float *mass, int64_t count, float target) {
    float running = 0;
    int64_t last = 0;
    for (int64_t at = 0; at < count; at++) {
        if (!(mass[at] > 0)) continue;
        running += mass[at], last = at;
        if (running > target) break;
    }
    return last;
}

/* The token: a block of ids, then one within it. */
static int32_t drawn(const float *mass, int64_t count, const float *held, const float *uniform,
                     float *log_mass) {
    int64_t blocks = (count + BLOCK - 1) / BLOCK;
    float whole = running_sum(held, blocks);
    int64_t from = reached(held, blocks, uniform[0] * whole) * BLOCK;
    int64_t size = from + BLOCK < count ? BLOCK : count - from;
    float inside = uniform[1] * running_sum(mass + from, size);
    *log_mass = (float)log(whole);
    return (int32_t)(from + reached(mass + from, size, inside));
}

/* What there is to know about the tokens that are kept: how many they are, their entropy, their share
   of the mass of the logits before every edit. */
static void describe(const float *logits, const float *x, int64_t count, Kept kept, double whole,
                     double weighted, float *found, int32_t *ids) {
    Whole id = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, left = {0};
    Lanes best = (Lanes){0} - FLT_MAX;
    double own = 0, mine = 0;
    for (int64_t at = 0; at < count; at += LANES) {
        Lanes next = from(logits, at, count);
        best = chosen(next > best, next, best);
    }
    float peak = largest_lane(best);
    for (int64_t first = 0; first < count; first += BLOCK) {
        int64_t to = first + BLOCK < count ? first + BLOCK : count;
        Lanes all = {0}, some = {0};
        for (int64_t at = first; at < to; at += LANES, id += LANES) {
            Lanes e = exponential(from(logits, at, to) - peak), value = from(x, at, to);
            Whole alive = kept_of(value, id, kept) & (value > (Lanes){0} - INFINITY);
            left -= alive, all += e, some += chosen(alive, e, (Lanes){0});
        }
        own += sum(all), mine += sum(some);
    }
    double entropy = log(whole) - weighted / whole;
    ids[6] = 0;
    for (int lane = 0; lane < LANES; lane++) ids[6] += left[lane];
    found[8] = entropy > 0 ? (float)entropy : 0, found[9] = (float)(mine / own);
}

/* The largest of what is kept. */
static void lead(const Draw *d, int64_t row, const Space *s, Kept kept) {
    Whole id = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int64_t at = 0; at < d->edit.count; at += LANES, id += LANES) {
        Lanes value = from(s->x, at, d->edit.count);
        value = chosen(kept_of(value, id, kept), value, (Lanes){0} - INFINITY);
        memcpy(s->key + at, &value, sizeof value);
    }
    largest_of_row(s->key, d->edit.count, d->leading, d->leaders + row * d->leading,
                   d->leader_ids + row * d->leading);
}

static void row_of(const Draw *d, int64_t row, const Space *s) {
    const float *given = d->given + row * GIVEN;
    float sharpness = given[0], top_k = given[1], top_p = given[2], min_p = given[3];
    float typical_p = given[4], *found = d->found + row * FOUND;
    int32_t *ids = d->ids + row * IDS;
    int64_t count = d->edit.count;
    const float *logits = d->edit.logits + row * count, *edited = logits;
    if (d->edit.touched[row]) edit_row(&d->edit, row, s->edited, s->mass), edited = s->edited;
    for (int64_t i = row * d->asking; i < (row + 1) * d->asking; i++)
        d->legal[i] = edited[d->asked[i]];
    double weighted, whole = 0;
    Kept kept = {NONE, NONE, 0};
    int32_t first = tempered(edited, count, sharpness == 0 ? 1 : sharpness, s->x, found);
    found[8] = found[9] = found[10] = 0, ids[6] = 0;
    if (sharpness == 0) { /* nothing else could be drawn, whatever the other cuts */
        kept.edge = (Edge){0, first};
        for (int i = 1; i < 5; i++) found[i] = 0, ids[i] = first;
        found[5] = NONE.key, ids[5] = NONE.id, found[6] = found[7] = 0, ids[0] = first;
        if (given[8] != 0) describe(logits, s->x, count, kept, 1, 0, found, ids);
        if (given[9] != 0) lead(d, row, s, kept);
        return;
    }
    found[1] = kept.edge.key, ids[1] = kept.edge.id;
    if (top_k > 0) {
        for (int64_t at = 0; at < count; at++) s->mass[at] = 1;
        Numbers all = {s->x, s->mass, 0, count};
        kept.edge = nearer(kept.edge, smallest(all, 0, top_k * (1 - SLACK), s));
    }
    found[2] = kept.edge.key, ids[2] = kept.edge.id;
    if (top_p < 1) {
        whole = masses(s->x, count, kept, s->mass, s->held, &weighted);
        Numbers all = {s->x, s->mass, 0, count};
        kept.edge = nearer(kept.edge, smallest(all, 0, top_p * whole * (1 - SLACK), s));
    }
    found[3] = kept.edge.key, ids[3] = kept.edge.id;
    if (min_p > 0) kept.edge = nearer(kept.edge, (Edge){given[5], INT32_MAX});
    found[4] = kept.edge.key, ids[4] = kept.edge.id;
    if (typical_p < 1) {
        whole = masses(s->x, count, kept, s->mass, s->held, &weighted);
        kept.centre = (float)(weighted / whole);
        float most = -INFINITY;
        for (int64_t at = 0; at < count; at++) {
            s->key[at] = s->mass[at] > 0 ? -fabsf(s->x[at] - kept.centre) : -INFINITY;
            most = s->key[at] > most ? s->key[at] : most;
        }
        Numbers all = {s->key, s->mass, 0, count};
        kept.near = smallest(all, most, typical_p * whole * (1 - SLACK), s);
    }
    found[5] = kept.near.key, ids[5] = kept.near.id, found[6] = kept.centre;
    whole = masses(s->x, count, kept, s->mass, s->held, &weighted);
    ids[0] = drawn(s->mass, count, s->held, given + 6, found + 7);
    found[10] = s->x[ids[0]];
    if (given[8] != 0) describe(logits, s->x, count, kept, whole, weighted, found, ids);
    if (given[9] != 0) lead(d, row, s, kept);
}

static void draw_part(const void *given, int64_t part) {
    const Job *job = given;
    const Edit *e = &job->d.edit;
    size_t size = (size_t)(held_size(e) + LANES);
    float *at = scratch(PART, 8 * size * sizeof(float));
    if (!at) {
        atomic_store(job->failed, 1);
        return;
    }
    Space s = {at, at + size, at + 2 * size, at + 3 * size, at + 4 * size, at + 5 * size,
               at + 6 * size, (int32_t *)(at + 7 * size)};
    for (int64_t row = part; row < e->rows; row += job->parts) {
        row_of(&job->d, row, &s);
        job->d.found[row * FOUND + 11] = penalty_of(e, row, job->d.ids[row * IDS]);
    }
}

int draw(const Draw *given) {
    atomic_int failed = 0;
    int64_t rows = given->edit.rows, most = 4 * team_size(), parts = rows < most ? rows : most;
    Job job = {*given, parts, &failed};
    together(draw_part, &job, parts);
    return !failed;
}
