/* Memory that a thread keeps for what it computes with, in large pages where the system has them:
   numbers that lie in many small ones take a fifth longer to multiply. */
#pragma once
#include <stddef.h>

enum { JOB, PART, USES }; /* what a caller lays out for all, and what each part of a job needs */

/* At least so many bytes, aligned to a line of the cache; 0 if they cannot be had. The thread's next
   call for the same use may move them, and what they held is lost. */
void *scratch(int use, size_t size);
