/* bench_lcore.c - the worker's core, and waiting for it without disturbing the writer's.
 *
 * rte_eal_wait_lcore() spins, on the writer's core: so sleep until it would return at once.
 */
#include "tools/bench.h"

#include <time.h>

#include <rte_launch.h>

_Atomic bool bench_is_interrupted;

void bench_sleep(void)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	(void)nanosleep(&ms, NULL);
}

void bench_on_worker(int (*function)(void *), void *arg)
{
	if (rte_eal_remote_launch(function, arg, BENCH_WORKER_LCORE) != 0)
		return;
	while (rte_eal_get_lcore_state(BENCH_WORKER_LCORE) == RUNNING)
		bench_sleep();
	(void)rte_eal_wait_lcore(BENCH_WORKER_LCORE);
}

double bench_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
