/* A team of threads that shares out the parts of a job. */
#pragma once
#include <stdint.h>

typedef void (*Work)(const void *job, int64_t part);

/* Do `work` for parts 0 .. parts - 1 of `job`, in any order; return when all are done. A second
   caller at the same time works alone. */
void together(Work work, const void *job, int64_t parts);

/* How many threads work together, the caller included; and how many from now on. */
int team_size(void);
void set_team_size(int threads);
