/* Products of many rows, in the way that this processor has for them. Which one it is depends on the
   number of inputs alone, so that a row has the same bits in every company. */
#include "kernels.h"

enum { TILED = 4096 }; /* most inputs of a tiled product: of more a part of the kernel does not stay
                          near the core, and their running sum is less exact */

int has_many(void) { return has_tiles() || has_panels(); }

int64_t few_rows(void) { return has_tiles() ? 64 : 192; }

int many_product(const Product *p) {
    if (has_tiles() && p->inputs <= TILED) return tiled_product(p);
    return has_panels() ? panel_product(p) : product(p);
}
