/* costs.c - the numbers of costs.h, one set a thread. */
#include "dataplane/costs.h"

#ifdef GATECAP_COSTS
_Thread_local struct costs costs_here;
#endif
