/* The threads wait for the next job awake for a while, because a step of decoding has some hundred
   of them with microseconds between, and asleep after that. */
#include "team.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#if defined(__x86_64__)
#define REST() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define REST() __asm__ volatile("yield")
#else
#define REST()
#endif

enum {
    AWAKE = 20000,  /* rests before a thread sleeps */
    PATIENCE = 200, /* rests before the caller lets another thread have its core */
};

static struct {
    pthread_mutex_t busy, lock;
    pthread_cond_t wake;
    atomic_uint turn;       /* counts the jobs */
    atomic_int sleeping;    /* members that wait for `wake` */
    atomic_int open;        /* whether a member may still join the job */
    atomic_int working;     /* members that have joined, or are looking whether they may */
    atomic_llong next;      /* first part that nobody has taken */
    Work work;
    const void *job;
    int64_t parts;
    int wanted, members;
} team = {
    .busy = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
};

static void take_parts(void) {
    for (int64_t part; (part = atomic_fetch_add(&team.next, 1)) < team.parts;)
        team.work(team.job, part);
}

static void await_turn(unsigned seen) {
    for (int rests = 0; rests < AWAKE; rests++) {
        if (atomic_load(&team.turn) != seen) return;
        REST();
    }
    pthread_mutex_lock(&team.lock);
    atomic_fetch_add(&team.sleeping, 1);
    while (atomic_load(&team.turn) == seen) pthread_cond_wait(&team.wake, &team.lock);
    atomic_fetch_sub(&team.sleeping, 1);
    pthread_mutex_unlock(&team.lock);
}

static void *member(void *first) {
    for (unsigned seen = (unsigned)(uintptr_t)first;;) {
        await_turn(seen);
        seen = atomic_load(&team.turn);
        atomic_fetch_add(&team.working, 1);
        if (atomic_load(&team.open)) take_parts();
        atomic_fetch_sub(&team.working, 1);
    }
    return 0;
}

static void enlist(void) {
    while (team.members < team.wanted) {
        pthread_t thread;
        void *turn = (void *)(uintptr_t)atomic_load(&team.turn);
        if (pthread_create(&thread, 0, member, turn)) break; /* fewer then */
        pthread_detach(thread);
        team.members++;
    }
}

int team_size(void) { return team.wanted + 1; }

void set_team_size(int threads) {
    pthread_mutex_lock(&team.busy);
    team.wanted = threads - 1;
    pthread_mutex_unlock(&team.busy);
}

void together(Work work, const void *job, int64_t parts) {
    if (parts < 2 || pthread_mutex_trylock(&team.busy)) {
        for (int64_t part = 0; part < parts; part++) work(job, part);
        return;
    }
    enlist();
    team.work = work, team.job = job, team.parts = parts;
    atomic_store(&team.next, 0);
    atomic_store(&team.open, 1);
    atomic_fetch_add(&team.turn, 1);
    if (atomic_load(&team.sleeping)) {
        pthread_mutex_lock(&team.lock);
        pthread_cond_broadcast(&team.wake);
        pthread_mutex_unlock(&team.lock);
    }
    take_parts();
    atomic_store(&team.open, 0); /* who is still asleep need not be waited for */
    for (int rests = 0; atomic_load(&team.working); rests++)
        if (rests < PATIENCE)
            REST();
        else
            sched_yield();
    pthread_mutex_unlock(&team.busy);
}
