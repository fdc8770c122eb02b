/* loop_post.h - run a function in the event loop from another thread.
 *
 * Threads: any.  The base was made after evthread_use_pthreads().
 */
#ifndef GATECAP_CONTROL_LOOP_POST_H
#define GATECAP_CONTROL_LOOP_POST_H

struct event_base;

/* 0, or -ENOMEM: then fn is not called. */
int loop_post(struct event_base *base, void (*fn)(void *ctx), void *ctx);

/* Run `work` in a thread of its own, then `after` in the loop.  0, or -errno: neither is called. */
int loop_work(struct event_base *base, void (*work)(void *ctx), void (*after)(void *ctx),
	      void *ctx);

/* Jobs of loop_work() whose work is under way, of all bases: while there are any, no base may be freed.
 * A look-up of a name can take half a minute.
 */
unsigned loop_jobs(void);

#endif
