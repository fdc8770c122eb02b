/* merge_scene.h - fake workers, rings, and stores that are lists, for tests of the merger.
 *
 * The stores here are lists: merge_scene.c has its own store_append(), store_commit() and so on, so that the
 * linker leaves control/store*.c out and every record that is dealt can be looked at.
 * A crash is a new merger over the same rings, with lists cut to what was committed.
 * Captures: records are pushed for the slots of slots_on, with the generation; a store's are those of its slot
 *           and its generations.  scene_open() has all slots on and generation 0.
 */
#ifndef GATECAP_TESTS_MERGE_SCENE_H
#define GATECAP_TESTS_MERGE_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>

#include "control/merge.h"
#include "tests/dice.h"
#include "tests/ring_pair.h"

enum {
	SCENE_RINGS_MAX = 8,
	SCENE_RING = 1 << 16,
	SCENE_RECORDS_MAX = 40000,
	SCENE_HELD_MAX = 6,
	SCENE_EPOCH = 77
};

/* What is remembered of a record: enough to tell it from every other. */
struct seen {
	uint64_t time_ns;
	uint32_t number; // of its ring, as pushed
	uint8_t ring, captures, is_late;
	uint16_t generation;
};

struct store {
	struct seen *list;
	unsigned n;
	int n_locks;
	unsigned n_committed;
	struct store_mark mark;			    // of that commit
	bool refuses;				    // commits fail
	uint16_t first_generation, last_generation; // what is the store's
};

/* One worker as the merger sees it. */
struct fake_worker {
	struct ring_pair pair;
	uint64_t now_ns;
	uint32_t n_pushed;
	uint64_t held_ns[SCENE_HELD_MAX]; // oldest first
	unsigned n_held;
};

struct tails {
	uint64_t tail, n_late;
};

struct scene {
	struct dice d;
	struct fake_worker workers[SCENE_RINGS_MAX];
	unsigned n_rings;
	uint64_t
		last_held_ns; // late times differ: among equal ones the order is that of finding them
	struct seen *pushed;
	unsigned n_pushed;
	struct store stores[CAPTURES_MAX];
	struct merger *merger;
	uint8_t slots_on;    // whose records are pushed
	uint8_t slots_given; // whose stores the merger has
	uint16_t generation; // of them
	struct tails at_death[SCENE_RINGS_MAX];
	uint64_t tails_seen[SCENE_RINGS_MAX];
};

void scene_open(struct scene *s, const char *name, unsigned n_rings, uint64_t start);

/* The same with several writers, which step in turn or as the test wants. */
void scene_open_writers(struct scene *s, const char *name, unsigned n_rings, unsigned n_writers);
void scene_close(struct scene *s);

/* A worker pushes one record, a random burst, its head. */
bool scene_push(struct scene *s, unsigned ring, uint64_t time_ns, bool is_late);
void scene_burst(struct scene *s, unsigned ring);
void scene_publish(struct fake_worker *w);

/* No more is held, and nothing comes any more: everything may be merged. */
void scene_end_traffic(struct scene *s);
uint64_t scene_oldest_watermark(const struct scene *s);

/* What was pushed and is older than `limit_ns`, sorted, must be what each store has. */
void scene_check(struct scene *s, uint64_t limit_ns);

/* The same for the stores of some slots. */
void scene_check_slots(struct scene *s, uint8_t slots, uint64_t limit_ns);

/* What a store's mark does not cover is in the rings: no tail is ahead of any mark; and none went back since
 * the last look.
 */
void scene_check_tails(struct scene *s);

/* All that may be merged, with the commits that it takes. */
uint64_t scene_merge_all(struct merger *m);

/* The process dies; another one with so many writers takes over what is committed.  Were the rings whole for
 * every store?
 */
bool scene_crash_to(struct scene *s, unsigned n_writers);
bool scene_crash(struct scene *s);

/* In the middle of a commit: some stores have heard of it, the rings have not. */
void scene_crash_in_commit(struct scene *s);

/* Rings whose tails must not be ahead of a commit. */
extern const struct ring_tail *scene_watched[SCENE_RINGS_MAX];

#endif
