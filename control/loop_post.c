/* loop_post.c - on event_base_once(), which is thread-safe with evthread_use_pthreads(). */
#include "control/loop_post.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static _Atomic unsigned n_jobs; // whose work is not done yet

struct posted {
	void (*fn)(void *ctx);
	void *ctx;
};

struct job {
	struct event_base *base;
	void (*work)(void *ctx);
	void (*after)(void *ctx);
	void *ctx;
};

static void run_posted(evutil_socket_t fd, short what, void *arg)
{
	struct posted posted = *(struct posted *)arg;

	(void)fd;
	(void)what;
	free(arg);
	posted.fn(posted.ctx);
}

int loop_post(struct event_base *base, void (*fn)(void *ctx), void *ctx)
{
	const struct timeval now = {0};
	struct posted *posted = malloc(sizeof(*posted));

	if (posted == NULL)
		return -ENOMEM;
	*posted = (struct posted){fn, ctx};
	if (event_base_once(base, -1, EV_TIMEOUT, run_posted, posted, &now) != 0) {
		free(posted);
		return -ENOMEM;
	}
	return 0;
}

static void *run_job(void *arg)
{
	struct job job = *(struct job *)arg;

	free(arg);
	job.work(job.ctx);
	// Without memory for a message the client would wait for ever: better to end and be restarted.
	if (loop_post(job.base, job.after, job.ctx) != 0)
		abort();
	// J1 pairs with J2 in loop_jobs(): the base is not touched any more.
	atomic_fetch_sub_explicit(&n_jobs, 1, memory_order_release);
	return NULL;
}

int loop_work(struct event_base *base, void (*work)(void *ctx), void (*after)(void *ctx), void *ctx)
{
	struct job *job = malloc(sizeof(*job));
	pthread_t thread;
	int rc;

	if (job == NULL)
		return -ENOMEM;
	*job = (struct job){base, work, after, ctx};
	atomic_fetch_add_explicit(&n_jobs, 1, memory_order_relaxed);
	rc = pthread_create(&thread, NULL, run_job, job);
	if (rc != 0) {
		atomic_fetch_sub_explicit(&n_jobs, 1, memory_order_relaxed);
		free(job);
		return -rc;
	}
	(void)pthread_detach(thread);
	return 0;
}

unsigned loop_jobs(void)
{
	return atomic_load_explicit(&n_jobs, memory_order_acquire); // J2
}
