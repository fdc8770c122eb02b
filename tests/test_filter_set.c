/* test_filter_set.c - a set that lies anywhere is refused, or is harmless.
 *
 * Every byte of a valid set is changed in several ways, and the set is cut at every length: run under
 * ASan (build-asan) this shows each read that the check let out.  What passes is compiled and matched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka wants the above first
#include <cmocka.h>
#include <errno.h>

#include "control/set_build.h"
#include "filters/matcher.h"
#include "tests/dice.h"
#include "tests/random_set.h"

enum { KEYS = 4, SMALL_BYTES = 800 };

/* Compile a set that passed and look packets up in it. */
static void use(const struct filter_set *set, struct dice *d, const struct random_set *from)
{
	struct error err = {0};
	struct matcher *m = matcher_open(set, &err);
	uint32_t n;

	assert_non_null(m);
	(void)matcher_endpoints(m, &n);
	assert_in_range(n, 0, SET_ENDPOINTS_MAX);
	for (unsigned i = 0; i < KEYS; i++) {
		struct random_key k;

		random_key_throw(from, d, &k);
		(void)match_fold(match_inner(m, &k.key));
		(void)match_fold(match_inner_no_first(m, &k.key));
		(void)match_outer(m, TRACE_ESP, &k.key);
	}
	assert_in_range(matcher_snap_bytes(m, 31), 0, SNAP_BYTES_MAX);
	matcher_close(m);
}

/* Check a copy of exactly `bytes` bytes.  True if it passed; then it was used. */
static bool check_copy(const void *mem, size_t bytes, struct dice *d, const struct random_set *from)
{
	struct filter_set set = {0};
	struct error err = {0};
	void *copy = malloc(bytes > 0 ? bytes : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, mem, bytes);
	rc = filter_set_check(copy, bytes, &set, &err);
	if (rc == 0) {
		assert_string_equal(err.text, "");
		use(&set, d, from);
	} else {
		assert_int_equal(rc, -EINVAL);
		assert_null(set.header); // untouched
		assert_non_null(strstr(err.text, "was refused"));
	}
	free(copy);
	return rc == 0;
}

/* A valid set with at least one of everything, and not larger than it must be. */
static void *throw_full_set(struct random_set *set, struct dice *d, size_t *bytes)
{
	for (;;) {
		struct filter_set out;
		void *mem;

		random_set_throw(set, d);
		mem = set_build(&set->source, bytes);
		assert_non_null(mem);
		assert_int_equal(filter_set_check(mem, *bytes, &out, NULL), 0);
		if (*bytes < SMALL_BYTES && out.header->n_captures > 1 &&
		    out.header->n_filters > 0 && out.header->n_filters < 3 &&
		    out.header->n_peers > 0 && out.header->n_remotes > 0 &&
		    out.header->n_endpoints > 0 && out.header->n_subnets > 0 &&
		    out.header->n_ports > 0)
			return mem;
		free(mem);
	}
}

static void every_byte_flipped_crashes_nothing(void **state)
{
	static const uint8_t flips[] = {0x01, 0x80};
	struct dice d = dice_open("every_byte_flipped_crashes_nothing");
	struct random_set *set = random_set_open();
	size_t bytes;
	uint8_t *mem = throw_full_set(set, &d, &bytes);
	unsigned n_passed = 0, n_refused = 0;

	(void)state;
	for (size_t i = 0; i < bytes; i++)
		for (unsigned k = 0; k < sizeof(flips); k++) {
			mem[i] ^= flips[k];
			if (check_copy(mem, bytes, &d, set))
				n_passed++;
			else
				n_refused++;
			mem[i] ^= flips[k];
		}
	assert_true(n_passed > 0 && n_refused > 0);
	free(mem);
	random_set_close(set);
}

static void every_word_set_to_an_edge_crashes_nothing(void **state)
{
	static const uint32_t edges[] = {0, 0x7fffffff, 0xffffffff, 10001};
	struct dice d = dice_open("every_word_set_to_an_edge_crashes_nothing");
	struct random_set *set = random_set_open();
	size_t bytes;
	uint8_t *mem = throw_full_set(set, &d, &bytes);

	(void)state;
	for (size_t i = 0; i + 4 <= bytes; i += 4)
		for (unsigned k = 0; k < sizeof(edges) / sizeof(edges[0]); k++) {
			uint8_t kept[4];

			memcpy(kept, mem + i, 4);
			memcpy(mem + i, &edges[k], 4);
			(void)check_copy(mem, bytes, &d, set);
			memcpy(mem + i, kept, 4);
		}
	free(mem);
	random_set_close(set);
}

static void cut_set_is_refused_at_every_length(void **state)
{
	struct dice d = dice_open("cut_set_is_refused_at_every_length");
	struct random_set *set = random_set_open();
	size_t bytes;
	uint8_t *mem = throw_full_set(set, &d, &bytes);

	(void)state;
	for (size_t n = 0; n < bytes; n++) {
		assert_false(check_copy(mem, n, &d, set));
		// The same with a header that agrees with the cut.
		if (n >= sizeof(struct set_header)) {
			struct set_header *h = (struct set_header *)mem;
			uint32_t kept = h->total_bytes;

			h->total_bytes = (uint32_t)n;
			if (check_copy(mem, n, &d, set))
				assert_in_range(bytes - n, 1, 7); // only padding was cut
			h->total_bytes = kept;
		}
	}
	free(mem);
	random_set_close(set);
}

struct liar {
	uint8_t *mem;
	size_t bytes;
	struct dice *d;
	const struct random_set *set;
};

/* Change one field, see it refused, and the truth accepted again. */
static void lie(const struct liar *l, const char *what, const void *field, size_t size,
		uint64_t value)
{
	uint8_t *at = l->mem + ((const uint8_t *)field - l->mem);
	uint64_t kept = 0;

	memcpy(&kept, at, size);
	memcpy(at, &value, size); // little endian, as the field is
	if (check_copy(l->mem, l->bytes, l->d, l->set))
		fail_msg("%s passed", what);
	memcpy(at, &kept, size);
	assert_true(check_copy(l->mem, l->bytes, l->d, l->set));
}

static void each_lie_is_refused(void **state)
{
	struct dice d = dice_open("each_lie_is_refused");
	struct random_set *set = random_set_open();
	struct liar l = {.d = &d, .set = set};
	struct filter_set at;

	(void)state;
	l.mem = throw_full_set(set, &d, &l.bytes);
	assert_int_equal(filter_set_check(l.mem, l.bytes, &at, NULL), 0);
#define LIE(field, value) lie(&l, #field " = " #value, &(field), sizeof(field), value)
	LIE(at.header->magic, 0);
	LIE(at.header->version, 2);
	LIE(at.header->total_bytes, (uint32_t)l.bytes + 8);
	LIE(at.header->n_captures, CAPTURES_MAX + 1);
	LIE(at.header->n_connections, CONNECTIONS_MAX + 1);
	LIE(at.header->n_endpoints, SET_ENDPOINTS_MAX + 1);
	LIE(at.header->n_subnets, UINT32_MAX);
	LIE(at.header->n_ports, UINT32_MAX);
	LIE(at.captures[0].slot, CAPTURES_MAX);
	LIE(at.captures[0].slot, at.captures[1].slot);
	LIE(at.captures[0].is_new, 2);
	LIE(at.captures[0].connection, at.header->n_connections);
	LIE(at.captures[0].tracing_flags, 16);
	LIE(at.captures[0].snap_bytes, 0);
	LIE(at.captures[0].snap_bytes, SNAP_BYTES_MAX + 1);
	LIE(at.captures[0].filters.n, FILTERS_PER_CAPTURE_MAX + 1);
	LIE(at.captures[0].filters.first, at.header->n_filters + 1);
	LIE(at.captures[0].filters.first, UINT32_MAX);
	LIE(at.filters[0].src.first, at.header->n_subnets + 1);
	LIE(at.filters[0].src.n, UINT32_MAX);
	LIE(at.filters[0].dst.n, at.header->n_subnets + 1);
	LIE(at.filters[0].src_port.n, at.header->n_ports + 1);
	LIE(at.filters[0].dst_port.first, UINT32_MAX);
	LIE(at.filters[0].any_protocol, 2);
	LIE(at.filters[0].single_direction, 2);
	LIE(at.subnets[0].family, 0);
	LIE(at.subnets[0].family, 5);
	LIE(at.subnets[0].prefix_len, 129);
	LIE(at.connections[0].type, 2);
	LIE(at.peers[0].connection, at.header->n_connections);
	LIE(at.peers[0].address.family, 1);
	LIE(at.peers[0].udp_ports.n, at.header->n_ports + 1);
	LIE(at.remotes[0].connection, at.header->n_connections);
	LIE(at.remotes[0].subnet.family, 0);
	LIE(at.endpoints[0].protocol, 1);
	LIE(at.endpoints[0].shared, 2);
	LIE(at.endpoints[0].address.family, 7);
#undef LIE
	free(l.mem);
	random_set_close(set);
}

/* A v4 prefix longer than 32 would lead the trie beyond the four bytes of an address. */
static void a_v4_prefix_of_33_is_refused(void **state)
{
	struct subnet long_one = {.family = 4, .prefix_len = 33, .addr = {10}};
	struct config config = {0};
	struct filter_data data = {.tracing_flags = TRACE_DEFAULT, .snap_bytes = 1, .n_filters = 1};
	struct set_source_capture capture = {.connection = SET_GATEWAY_WIDE, .data = &data};
	struct set_source source = {.config = &config, .captures = &capture, .n_captures = 1};
	struct filter_set set;
	size_t bytes;
	void *mem;

	(void)state;
	data.filters[0].src = &long_one;
	data.filters[0].n_src = 1;
	mem = set_build(&source, &bytes);
	assert_int_equal(filter_set_check(mem, bytes, &set, NULL), -EINVAL);
	free(mem);
	long_one.prefix_len = 32;
	mem = set_build(&source, &bytes);
	assert_int_equal(filter_set_check(mem, bytes, &set, NULL), 0);
	free(mem);
}

static void an_empty_set_is_valid_and_wants_nothing(void **state)
{
	struct config config = {0};
	struct set_source source = {.config = &config, .generation = 5};
	uint8_t addr[4] = {10, 0, 0, 1};
	struct match_key key = {.src = addr, .dst = addr, .family = 4, .protocol = 50};
	struct filter_set set;
	struct matcher *m;
	size_t bytes;
	void *mem = set_build(&source, &bytes);

	(void)state;
	assert_int_equal(filter_set_check(mem, bytes, &set, NULL), 0);
	m = matcher_open(&set, NULL);
	assert_non_null(m);
	assert_int_equal(matcher_slots(m), 0);
	assert_int_equal(match_inner(m, &key), 0);
	assert_int_equal(match_outer(m, TRACE_ESP, &key), 0);
	matcher_close(m);
	free(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_flipped_crashes_nothing),
		cmocka_unit_test(every_word_set_to_an_edge_crashes_nothing),
		cmocka_unit_test(cut_set_is_refused_at_every_length),
		cmocka_unit_test(each_lie_is_refused),
		cmocka_unit_test(a_v4_prefix_of_33_is_refused),
		cmocka_unit_test(an_empty_set_is_valid_and_wants_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
