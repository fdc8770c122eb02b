/* test_xfrm_feed.c - gatecapd's end of xfrm.sock against a peer that says what the test wants. */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "control/xfrm_feed.h"
#include "control/xfrm_netlink.h"
#include "control/xfrm_proto.h"

static struct event_base *base;
static struct xfrm_feed *feed;
static struct sockaddr_un address;
static char folder[64];
static int peer;
static struct sa_list held; // what a registry would have
static unsigned n_replaced;
static int refusal; // of put

/* ---- The sink ---- */

static int replace(void *ctx, struct sa_list *list, struct error *err)
{
	(void)ctx;
	(void)err;
	sa_list_fini(&held);
	held = *list;
	*list = (struct sa_list){0};
	n_replaced++;
	return 0;
}

static uint32_t find(const struct sa_item *like)
{
	uint32_t i = 0;

	while (i < held.n && !sa_item_is_same_sa(&held.items[i], like))
		i++;
	return i;
}

static int put(void *ctx, const struct sa_item *item, struct error *err)
{
	uint32_t i = find(item);

	(void)ctx;
	if (refusal != 0) {
		error_set(err, "There is no room.");
		return refusal;
	}
	if (i == held.n)
		return sa_list_add(&held, item);
	held.items[i] = *item;
	return 0;
}

static int drop(void *ctx, const struct sa_item *like)
{
	uint32_t i = find(like);

	(void)ctx;
	if (i == held.n)
		return -ENOENT;
	sa_list_remove(&held, i);
	return 0;
}

/* ---- The peer ---- */

static void turn(void)
{
	for (unsigned i = 0; i < 4; i++)
		(void)event_base_loop(base, EVLOOP_NONBLOCK);
}

static int connect_peer(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	turn();
	return fd;
}

static void say(void *message, size_t bytes, unsigned type)
{
	*(struct xfrm_header *)message =
		(struct xfrm_header){XFRM_MAGIC, XFRM_VERSION, (uint16_t)type};
	assert_int_equal(send(peer, message, bytes, MSG_NOSIGNAL), bytes);
	turn();
}

static void say_word(unsigned type)
{
	struct xfrm_hello word;

	say(&word, sizeof(word), type);
}

static void say_end(void)
{
	struct xfrm_end end = {.n_foreign = 3, .n_malformed = 2};

	say(&end, sizeof(end), XFRM_END);
}

static struct xfrm_sa sa_of(uint32_t spi)
{
	struct xfrm_sa sa;
	struct sa_record *r = &sa.item.record;

	memset(&sa, 0, sizeof(sa)); // padding included
	r->spi = spi;
	r->spi_mask = UINT32_MAX;
	r->dst.family = 4;
	memcpy(r->dst.value, "\xc0\x00\x02\x02", 4);
	memset(r->dst.mask, 0xff, 4);
	r->mode = SA_MODE_TUNNEL;
	r->cipher = ESP_AES_GCM;
	r->icv_bytes = 16;
	r->enc_key_bytes = 20;
	memset(r->enc_key, 7, 20);
	memcpy(sa.item.algorithm, "rfc4106(gcm(aes)) 128", 22);
	return sa;
}

static void say_sa(uint32_t spi, unsigned type)
{
	struct xfrm_sa sa = sa_of(spi);

	say(&sa, sizeof(sa), type);
}

static bool is_connected(void)
{
	struct xfrm_feed_status s;

	xfrm_feed_status(feed, &s);
	return s.is_connected;
}

static void assert_held(const char *spis)
{
	char text[64] = "";

	for (uint32_t i = 0; i < held.n && i < 9; i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%u ",
			       held.items[i].record.spi);
	assert_string_equal(text, spis);
}

static int begin(void **state)
{
	const struct xfrm_sink sink = {NULL, replace, put, drop};

	(void)state;
	(void)snprintf(folder, sizeof(folder), "/tmp/gatecap-feed-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return -1;
	address = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", folder);
	base = event_base_new();
	n_replaced = 0;
	refusal = 0;
	feed = xfrm_feed_open(base, address.sun_path, geteuid(), &sink, NULL);
	if (feed == NULL)
		return -1;
	peer = connect_peer();
	say_word(XFRM_HELLO);
	return 0;
}

static int end(void **state)
{
	(void)state;
	(void)close(peer);
	xfrm_feed_close(feed);
	event_base_free(base);
	sa_list_fini(&held);
	return rmdir(folder); // its socket is gone
}

/* ---- Lists and events ---- */

static void list_holds_when_it_is_whole_and_not_before(void **state)
{
	struct xfrm_feed_status s;

	(void)state;
	say_sa(9, XFRM_PUT_ONE);
	say_word(XFRM_BEGIN);
	say_sa(1, XFRM_LISTED);
	say_sa(2, XFRM_LISTED);
	assert_held("9 ");
	say_end();
	assert_held("1 2 ");
	xfrm_feed_status(feed, &s);
	assert_true(s.is_connected && s.is_complete);
	assert_int_equal(s.n_sas, 2);
	assert_int_equal(s.n_foreign, 3);
	assert_int_equal(s.n_malformed, 2);
}

static void events_hold_at_once_and_for_the_list_that_is_being_told(void **state)
{
	(void)state;
	say_sa(1, XFRM_PUT_ONE);
	say_word(XFRM_BEGIN);
	say_sa(3, XFRM_PUT_ONE);
	say_sa(1, XFRM_GONE);
	assert_held("3 ");
	say_sa(2, XFRM_LISTED);
	say_sa(1, XFRM_LISTED); // the kernel's answer was on its way when it was deleted
	say_end();
	assert_held("2 3 ");
	say_word(XFRM_BEGIN);
	say_sa(1, XFRM_LISTED);
	say_sa(1, XFRM_GONE);
	say_end();
	assert_held("");
}

static void flush_voids_what_was_listed_before_it(void **state)
{
	(void)state;
	say_word(XFRM_BEGIN);
	say_sa(1, XFRM_LISTED);
	say_sa(2, XFRM_PUT_ONE);
	say_word(XFRM_FLUSH);
	assert_held("");
	say_sa(3, XFRM_LISTED);
	say_end();
	assert_held("3 ");
}

static void list_that_breaks_off_changes_nothing(void **state)
{
	(void)state;
	say_sa(9, XFRM_PUT_ONE);
	say_word(XFRM_BEGIN);
	say_sa(1, XFRM_LISTED);
	say_word(XFRM_BEGIN); // anew
	say_sa(2, XFRM_LISTED);
	(void)close(peer);
	turn();
	assert_false(is_connected());
	assert_held("9 ");
	peer = connect_peer();
	say_word(XFRM_HELLO);
	say_word(XFRM_BEGIN);
	say_sa(3, XFRM_LISTED);
	say_end();
	assert_held("3 ");
}

static void list_that_is_too_long_is_not_taken_in_part(void **state)
{
	(void)state;
	say_sa(9, XFRM_PUT_ONE);
	say_word(XFRM_BEGIN);
	for (uint32_t i = 1; i <= SA_MAX + 1; i++)
		say_sa(i, XFRM_LISTED);
	say_end();
	assert_true(is_connected());
	assert_held("9 ");
	assert_int_equal(n_replaced, 0);
}

static void refused_sa_does_not_end_the_connection(void **state)
{
	(void)state;
	refusal = -E2BIG;
	say_sa(1, XFRM_PUT_ONE);
	assert_true(is_connected());
	assert_held("");
}

/* ---- Who, and what ---- */

static void second_peer_takes_the_place_of_the_first(void **state)
{
	int first = peer;
	char byte;

	(void)state;
	peer = connect_peer();
	assert_int_equal(recv(first, &byte, 1, 0), 0);
	(void)close(first);
	say_word(XFRM_HELLO);
	say_sa(1, XFRM_PUT_ONE);
	assert_held("1 ");
}

static void process_of_another_user_is_turned_away(void **state)
{
	const struct xfrm_sink sink = {NULL, replace, put, drop};
	char byte;

	(void)state;
	(void)close(peer);
	xfrm_feed_close(feed);
	feed = xfrm_feed_open(base, address.sun_path, geteuid() + 1, &sink, NULL);
	assert_non_null(feed);
	peer = connect_peer();
	assert_int_equal(recv(peer, &byte, 1, 0), 0);
	assert_false(is_connected());
}

static void socket_that_is_served_is_not_taken_and_a_left_over_is(void **state)
{
	const struct xfrm_sink sink = {NULL, replace, put, drop};
	struct sockaddr_un other = address;
	struct error err = {0};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct xfrm_feed *second;

	(void)state;
	assert_null(xfrm_feed_open(base, address.sun_path, 0, &sink, &err));
	assert_non_null(strstr(err.text, "another process serves it; remove it"));
	other.sun_path[strlen(other.sun_path) - 1] = 't';
	assert_int_equal(bind(fd, (struct sockaddr *)&other, sizeof(other)), 0);
	(void)close(fd);
	second = xfrm_feed_open(base, other.sun_path, 0, &sink, &err);
	assert_non_null(second);
	xfrm_feed_close(second);
	assert_null(xfrm_feed_open(base, "/nowhere/at/all", 0, &sink, &err));
	assert_non_null(strstr(err.text, "does its folder exist"));
}

/* Each ends the connection, and a new one is made. */
static void assert_ends_it(void *message, size_t bytes, const char *what)
{
	assert_int_equal(send(peer, message, bytes, MSG_NOSIGNAL), bytes);
	turn();
	if (is_connected())
		fail_msg("%s is taken for a message", what);
	(void)close(peer);
	peer = connect_peer();
	say_word(XFRM_HELLO);
}

static void what_is_no_message_ends_the_connection(void **state)
{
	struct xfrm_sa sa = sa_of(1);
	struct xfrm_hello word = {{XFRM_MAGIC, XFRM_VERSION, XFRM_BEGIN}};
	uint8_t large[2 * sizeof(struct xfrm_sa)] = {0};

	(void)state;
	sa.h = (struct xfrm_header){XFRM_MAGIC, XFRM_VERSION, XFRM_PUT_ONE};
	memcpy(large, &sa, sizeof(sa));
	assert_ends_it(large, sizeof(large), "one that is too long");
	assert_ends_it(&sa, sizeof(sa) - 1, "one that is too short");
	sa.h.type = XFRM_LISTED;
	assert_ends_it(&sa, sizeof(sa), "an SA of no list");
	sa.h.type = 99;
	assert_ends_it(&sa, sizeof(sa), "an unknown type");
	word.h.version++;
	assert_ends_it(&word, sizeof(word), "another version");
	assert_ends_it(&word, 4, "half a header");
	assert_held("");
}

static void assert_is_no_sa(const char *what, void (*spoil)(struct xfrm_sa *sa))
{
	struct xfrm_sa sa = sa_of(1);

	sa.h = (struct xfrm_header){XFRM_MAGIC, XFRM_VERSION, XFRM_PUT_ONE};
	spoil(&sa);
	assert_ends_it(&sa, sizeof(sa), what);
	assert_held("");
}

#define SPOIL(name, line)                      \
	static void name(struct xfrm_sa *sa)   \
	{                                      \
		struct sa_item *i = &sa->item; \
		(void)i;                       \
		line;                          \
	}
SPOIL(spoil_fault, sa->fault = 3)
SPOIL(spoil_cipher, i->record.cipher = ESP_CIPHER_COUNT)
SPOIL(spoil_auth, i->record.auth = ESP_AUTH_HMAC_SHA1_96)
SPOIL(spoil_key, i->record.enc_key_bytes = 21)
SPOIL(spoil_icv, i->record.icv_bytes = 7)
SPOIL(spoil_mask, i->record.spi_mask = 1)
SPOIL(spoil_family, i->record.dst.family = 5)
SPOIL(spoil_wildcard, i->record.dst.mask[0] = 0)
SPOIL(spoil_beyond, i->record.dst.value[4] = 1)
SPOIL(spoil_source, i->record.src.value[0] = 1)
SPOIL(spoil_mode, i->record.mode = SA_MODE_TRANSPORT + 1)
SPOIL(spoil_flags, i->record.flags = SA_NEW)
SPOIL(spoil_connection, i->connection[0] = 'x')
SPOIL(spoil_remote, i->remote.family = 4; i->remote.prefix_len = 33)
SPOIL(spoil_text, memset(i->algorithm, 'x', sizeof(i->algorithm)))
SPOIL(spoil_bool, memset(&i->is_inbound, 2, 1))
SPOIL(spoil_unsupported, i->record.cipher = ESP_UNSUPPORTED)

static void sa_that_could_be_in_no_set_ends_the_connection(void **state)
{
	(void)state;
	assert_is_no_sa("fault", spoil_fault);
	assert_is_no_sa("cipher", spoil_cipher);
	assert_is_no_sa("authentication of an AEAD", spoil_auth);
	assert_is_no_sa("key", spoil_key);
	assert_is_no_sa("ICV", spoil_icv);
	assert_is_no_sa("mask", spoil_mask);
	assert_is_no_sa("family", spoil_family);
	assert_is_no_sa("wildcard", spoil_wildcard);
	assert_is_no_sa("bytes beyond the address", spoil_beyond);
	assert_is_no_sa("source of no family", spoil_source);
	assert_is_no_sa("mode", spoil_mode);
	assert_is_no_sa("flags", spoil_flags);
	assert_is_no_sa("connection", spoil_connection);
	assert_is_no_sa("remote subnet", spoil_remote);
	assert_is_no_sa("text without end", spoil_text);
	assert_is_no_sa("a boolean of 2", spoil_bool);
	assert_is_no_sa("key of what is not supported", spoil_unsupported);
}

#define FEED_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FEED_TEST(list_holds_when_it_is_whole_and_not_before),
		FEED_TEST(events_hold_at_once_and_for_the_list_that_is_being_told),
		FEED_TEST(flush_voids_what_was_listed_before_it),
		FEED_TEST(list_that_breaks_off_changes_nothing),
		FEED_TEST(list_that_is_too_long_is_not_taken_in_part),
		FEED_TEST(refused_sa_does_not_end_the_connection),
		FEED_TEST(second_peer_takes_the_place_of_the_first),
		FEED_TEST(process_of_another_user_is_turned_away),
		FEED_TEST(socket_that_is_served_is_not_taken_and_a_left_over_is),
		FEED_TEST(what_is_no_message_ends_the_connection),
		FEED_TEST(sa_that_could_be_in_no_set_ends_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
