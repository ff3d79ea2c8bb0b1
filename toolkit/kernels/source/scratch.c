#include "scratch.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#define LARGE ((size_t)2 * 1024 * 1024)

typedef struct {
    char *mapped, *from; /* `from` begins a large page */
    size_t size;         /* from there on */
} Area;

static __thread Area areas[USES];
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void drop(Area *area) {
    if (area->mapped) munmap(area->mapped, area->size + LARGE);
    *area = (Area){0};
}

static void drop_all(void *own) {
    for (int use = 0; use < USES; use++) drop((Area *)own + use);
}

static void make_key(void) { pthread_key_create(&key, drop_all); }

void *scratch(int use, size_t size) {
    Area *area = &areas[use];
    if (size <= area->size) return area->from;
    drop(area);
    size = (size + LARGE - 1) / LARGE * LARGE;
    void *mapped =
        mmap(0, size + LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return 0;
    pthread_once(&once, make_key);
    pthread_setspecific(key, areas); /* they go with the thread */
    char *from = (char *)(((uintptr_t)mapped + LARGE - 1) / LARGE * LARGE);
    *area = (Area){mapped, from, size};
#ifdef MADV_HUGEPAGE
    madvise(from, size, MADV_HUGEPAGE);
#endif
    return from;
}
