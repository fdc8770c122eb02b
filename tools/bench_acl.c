/* bench_acl.c - rte_acl on the long lists: a rule for each (source, destination, port, direction).
 *
 * Limits: 1 GiB for the tables (its own max_size), and 4 GiB for its build, which takes several times as
 * much.  Rules are tuples there, so that lists multiply; of 10^9 none is built.
 */
#include "tools/bench_lookup.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include <rte_acl.h>
#include <rte_lcore.h>
#include <rte_malloc.h>

enum { FIELD_PROTOCOL, FIELD_SRC, FIELD_DST, FIELD_SPORT, FIELD_DPORT, FIELD_COUNT, KEY = 23 };

static const size_t table_bytes_max = (size_t)1 << 30, build_bytes_max = (size_t)4 << 30;

RTE_ACL_RULE_DEF(rule, FIELD_COUNT);

/* Offsets from the protocol byte of the IP header, where a key begins. */
static const struct rte_acl_field_def fields[FIELD_COUNT] = {
	{RTE_ACL_FIELD_TYPE_BITMASK, 1, FIELD_PROTOCOL, 0, 0},
	{RTE_ACL_FIELD_TYPE_MASK, 4, FIELD_SRC, 1, 3},
	{RTE_ACL_FIELD_TYPE_MASK, 4, FIELD_DST, 2, 7},
	{RTE_ACL_FIELD_TYPE_RANGE, 2, FIELD_SPORT, 3, 11},
	{RTE_ACL_FIELD_TYPE_RANGE, 2, FIELD_DPORT, 3, 13},
};

static size_t allocated(void)
{
	struct rte_malloc_socket_stats stats = {0};

	(void)rte_malloc_get_socket_stats((int)rte_socket_id(), &stats);
	return stats.heap_allocsz_bytes;
}

static void set_ports(struct rte_acl_field *field, uint16_t low, uint16_t high)
{
	field->value.u16 = low;
	field->mask_range.u16 = high;
}

static void set_subnet(struct rte_acl_field *field, struct bench_subnet subnet)
{
	field->value.u32 = subnet.address;
	field->mask_range.u32 = subnet.prefix_len;
}

/* Both directions of one combination. */
static int add_rules(struct rte_acl_ctx *acl, uint32_t s, uint32_t d, uint32_t p)
{
	struct rule rules[2] = {0};
	uint16_t port = bench_list_port(p);

	for (unsigned i = 0; i < 2; i++) {
		rules[i].data = (struct rte_acl_rule_data){
			.category_mask = 1, .priority = 1, .userdata = 1};
		set_subnet(&rules[i].field[i == 0 ? FIELD_SRC : FIELD_DST], bench_list_src(s));
		set_subnet(&rules[i].field[i == 0 ? FIELD_DST : FIELD_SRC], bench_list_dst(d));
		set_ports(&rules[i].field[i == 0 ? FIELD_SPORT : FIELD_DPORT], 0, UINT16_MAX);
		set_ports(&rules[i].field[i == 0 ? FIELD_DPORT : FIELD_SPORT], port, port);
	}
	return rte_acl_add_rules(acl, (const struct rte_acl_rule *)rules, 2);
}

static int add_all(struct rte_acl_ctx *acl, uint32_t n)
{
	for (uint32_t s = 0; s < n; s++)
		for (uint32_t d = 0; d < n; d++)
			for (uint32_t p = 0; p < n; p++)
				if (add_rules(acl, s, d, p) != 0)
					return -1;
	return 0;
}

static void drop(struct bench_lookup *l)
{
	rte_acl_free(l->built);
	l->built = NULL;
}

static int build(struct bench_lookup *l, uint32_t n)
{
	struct rte_acl_config config = {
		.num_categories = 1, .num_fields = FIELD_COUNT, .max_size = table_bytes_max};
	const struct rte_acl_param param = {.name = "bench",
					    .socket_id = SOCKET_ID_ANY,
					    .rule_size = RTE_ACL_RULE_SZ(FIELD_COUNT),
					    .max_rule_num = 2 * n * n * n};
	size_t before;

	l->size = 2.0 * n * n * n;
	l->why = "memory for its rules";
	l->built = l->size <= UINT32_MAX ? rte_acl_create(&param) : NULL;
	if (l->built == NULL || add_all(l->built, n) != 0)
		return -1;
	for (unsigned i = 0; i < FIELD_COUNT; i++)
		config.defs[i] = fields[i];
	before = allocated();
	l->why = "memory: 1 GiB of tables, 4 GiB to build in";
	if (rte_acl_build(l->built, &config) != 0) {
		drop(l);
		return -1;
	}
	l->bytes = (double)(allocated() - before);
	return 0;
}

static uint32_t burst(struct bench_lookup *l, const struct bench_lookup_frame *frames, uint32_t n)
{
	const uint8_t *keys[BURST_MAX];
	uint32_t results[BURST_MAX], n_found = 0;

	for (uint32_t i = 0; i < n; i++)
		keys[i] = frames[i].bytes + KEY;
	(void)rte_acl_classify(l->built, keys, results, n, 1);
	for (uint32_t i = 0; i < n; i++)
		n_found += results[i];
	return n_found;
}

/* From now on the process gets at most so much more. */
static void limit_memory(void)
{
	FILE *statm = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;
	struct rlimit limit;

	if (statm == NULL)
		return;
	if (fscanf(statm, "%lu", &pages) == 1) {
		limit.rlim_cur = limit.rlim_max =
			pages * (rlim_t)sysconf(_SC_PAGESIZE) + build_bytes_max;
		(void)setrlimit(RLIMIT_AS, &limit);
	}
	(void)fclose(statm);
}

int bench_acl(const struct bench_options *o)
{
	struct bench_lookup lookup = {.engine = "rte_acl",
				      .build = build,
				      .drop = drop,
				      .burst = burst,
				      .size_name = "rules"};

	limit_memory();
	return bench_lookup(o, &lookup);
}
