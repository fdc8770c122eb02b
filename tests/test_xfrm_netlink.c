/* test_xfrm_netlink.c - what a real kernel sent (tests/data/xfrm, recorded by record_xfrm.py), whole, cut
 * anywhere, with any byte changed; and the few messages that could not be recorded.
 *
 * Every datagram lies right in front of a page that faults.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "control/xfrm_netlink.h"

#define FOLDER "tests/data/xfrm/"

enum { ROOM_BYTES = 16 * 4096, SA_DIR = 33 };

static uint8_t *room_end; // a page that faults

static int make_room(void **state)
{
	uint8_t *room =
		mmap(NULL, ROOM_BYTES + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	if (room == MAP_FAILED || mprotect(room, ROOM_BYTES, PROT_READ | PROT_WRITE) != 0)
		return -1;
	room_end = room + ROOM_BYTES;
	return 0;
}

static size_t load(const char *name, uint8_t *out)
{
	char path[256];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), FOLDER "%s.nl", name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		fail_msg("%s: run this test in the top folder of the tree", path);
	n = read(fd, out, ROOM_BYTES);
	(void)close(fd);
	assert_true(n > 0);
	return (size_t)n;
}

/* Bytes up to the page that faults; their beginning is aligned to 4, as the kernel's. */
static uint8_t *place(const uint8_t *bytes, size_t n)
{
	uint8_t *at = room_end - (n + 3) / 4 * 4;

	memcpy(at, bytes, n);
	return at;
}

/* The first message of n bytes. */
static struct xfrm_message read_first(const uint8_t *bytes, size_t n)
{
	struct xfrm_reader reader = xfrm_reader_over(place(bytes, n), n);
	struct xfrm_message m;

	assert_true(xfrm_read(&reader, &m));
	return m;
}

static struct xfrm_message recorded(const char *name)
{
	static uint8_t bytes[ROOM_BYTES];
	size_t n = load(name, bytes);

	return read_first(bytes, n);
}

static bool is_counting(const uint8_t *key, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (key[i] != i)
			return false;
	return true;
}

/* ---- Algorithms ---- */

struct expected {
	const char *name;
	enum esp_cipher cipher;
	unsigned enc_key_bytes;
	enum esp_auth auth;
	unsigned auth_key_bytes, icv_bytes;
	const char *text;
};

/* Numbered: the row is named by its number when it fails. */
static const struct expected algorithms[] = {
	{"gcm-128-icv-128", ESP_AES_GCM, 20, ESP_AUTH_NONE, 0, 16, "rfc4106(gcm(aes)) 128"},
	{"gcm-192-icv-96", ESP_AES_GCM, 28, ESP_AUTH_NONE, 0, 12, "rfc4106(gcm(aes)) 96"},
	{"gcm-256-icv-64", ESP_AES_GCM, 36, ESP_AUTH_NONE, 0, 8, "rfc4106(gcm(aes)) 64"},
	{"ccm-128-icv-128", ESP_AES_CCM, 19, ESP_AUTH_NONE, 0, 16, "rfc4309(ccm(aes)) 128"},
	{"ccm-256-icv-64", ESP_AES_CCM, 35, ESP_AUTH_NONE, 0, 8, "rfc4309(ccm(aes)) 64"},
	{"gmac-128", ESP_AES_GMAC, 20, ESP_AUTH_NONE, 0, 16, "rfc4543(gcm(aes)) 128"},
	{"chacha20-poly1305", ESP_CHACHA20_POLY1305, 36, ESP_AUTH_NONE, 0, 16,
	 "rfc7539esp(chacha20,poly1305) 128"},
	{"cbc-128-sha1", ESP_AES_CBC, 16, ESP_AUTH_HMAC_SHA1_96, 20, 12, "cbc(aes) hmac(sha1) 96"},
	{"cbc-192-sha256-128", ESP_AES_CBC, 24, ESP_AUTH_HMAC_SHA256_128, 32, 16,
	 "cbc(aes) hmac(sha256) 128"},
	{"cbc-256-sha256-96", ESP_AES_CBC, 32, ESP_AUTH_HMAC_SHA256_96, 32, 12,
	 "cbc(aes) hmac(sha256) 96"},
	{"cbc-256-sha384", ESP_AES_CBC, 32, ESP_AUTH_HMAC_SHA384_192, 48, 24,
	 "cbc(aes) hmac(sha384) 192"},
	{"cbc-256-sha512", ESP_AES_CBC, 32, ESP_AUTH_HMAC_SHA512_256, 64, 32,
	 "cbc(aes) hmac(sha512) 256"},
	{"cbc-128-md5", ESP_AES_CBC, 16, ESP_AUTH_HMAC_MD5_96, 16, 12, "cbc(aes) hmac(md5) 96"},
	{"cbc-128-xcbc", ESP_AES_CBC, 16, ESP_AUTH_AES_XCBC_96, 16, 12, "cbc(aes) xcbc(aes) 96"},
	{"cbc-128-cmac", ESP_AES_CBC, 16, ESP_AUTH_UNCHECKED, 0, 12, "cbc(aes) cmac(aes) 96"},
	{"cbc-128-sha1-160", ESP_AES_CBC, 16, ESP_AUTH_UNCHECKED, 0, 20, "cbc(aes) hmac(sha1) 160"},
	{"cbc-128-none", ESP_AES_CBC, 16, ESP_AUTH_NONE, 0, 0, "cbc(aes) "},
	{"cbc-128-digest-null", ESP_AES_CBC, 16, ESP_AUTH_NONE, 0, 0, "cbc(aes) digest_null"},
	{"ctr-128-sha1", ESP_AES_CTR, 20, ESP_AUTH_HMAC_SHA1_96, 20, 12,
	 "rfc3686(ctr(aes)) hmac(sha1) 96"},
	{"3des-sha1", ESP_3DES_CBC, 24, ESP_AUTH_HMAC_SHA1_96, 20, 12,
	 "cbc(des3_ede) hmac(sha1) 96"},
	{"null-sha1", ESP_NULL, 0, ESP_AUTH_HMAC_SHA1_96, 20, 12, "ecb(cipher_null) hmac(sha1) 96"},
	{"keys-hidden-null", ESP_NULL, 0, ESP_AUTH_UNCHECKED, 0, 12,
	 "ecb(cipher_null) hmac(sha1) 96"},
};

static void every_algorithm_that_a_kernel_told_is_read(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
		const struct expected *e = &algorithms[i];
		struct xfrm_message m = recorded(e->name);
		const struct sa_record *r = &m.item.record;

		if (m.kind != XFRM_PUT || m.fault != XFRM_FINE || r->cipher != e->cipher ||
		    r->auth != e->auth || r->icv_bytes != e->icv_bytes ||
		    r->enc_key_bytes != e->enc_key_bytes ||
		    r->auth_key_bytes != e->auth_key_bytes || m.is_dump ||
		    !is_counting(r->enc_key, r->enc_key_bytes) ||
		    !is_counting(r->auth_key, r->auth_key_bytes))
			fail_msg(
				"row %u, %s: kind %d, fault %d, cipher %u, auth %u, ICV %u, keys %u %u",
				i, e->name, m.kind, m.fault, r->cipher, r->auth, r->icv_bytes,
				r->enc_key_bytes, r->auth_key_bytes);
		assert_string_equal(m.item.algorithm, e->text);
		assert_int_equal(r->spi_mask, UINT32_MAX);
		assert_int_equal(r->spi >> 8, 1);
		assert_memory_equal(r->dst.value, "\xc0\x00\x02\x02\0\0\0\0\0\0\0\0\0\0\0\0", 16);
		assert_memory_equal(r->dst.mask, "\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0", 16);
		assert_int_equal(r->src.value[3], 1);
		assert_int_equal(r->src.family, 4);
		assert_int_equal(r->mode, SA_MODE_TUNNEL);
	}
}

static void assert_given_up(const char *name, enum xfrm_fault fault, const char *text)
{
	static const uint8_t none[ESP_AUTH_KEY_MAX];
	struct xfrm_message m = recorded(name);
	const struct sa_record *r = &m.item.record;

	assert_int_equal(m.kind, XFRM_PUT);
	assert_int_equal(m.fault, fault);
	assert_int_equal(r->cipher, ESP_UNSUPPORTED);
	assert_int_equal(r->auth, ESP_AUTH_NONE);
	assert_int_equal(r->enc_key_bytes + r->auth_key_bytes + r->icv_bytes, 0);
	assert_memory_equal(r->enc_key, none, ESP_ENC_KEY_MAX);
	assert_memory_equal(r->auth_key, none, ESP_AUTH_KEY_MAX);
	assert_string_equal(m.item.algorithm, text);
	assert_int_equal(r->dst.family, 4);
}

static void what_gatecap_does_not_read_is_known_by_name_and_has_no_key(void **state)
{
	(void)state;
	assert_given_up("camellia-sha1", XFRM_UNSUPPORTED, "cbc(camellia) hmac(sha1) 96");
	assert_given_up("cbc-128-sha512-512", XFRM_UNSUPPORTED, "cbc(aes) hmac(sha512) 512");
	assert_given_up("beet", XFRM_UNSUPPORTED, "BEET mode: cbc(aes) hmac(sha1) 96");
}

static void keys_that_are_all_zero_are_hidden_ones(void **state)
{
	(void)state;
	assert_given_up("keys-hidden-gcm", XFRM_KEYS_HIDDEN,
			"keys hidden by the kernel: rfc4106(gcm(aes)) 128");
	assert_given_up("keys-hidden-cbc", XFRM_KEYS_HIDDEN,
			"keys hidden by the kernel: cbc(aes) hmac(sha1) 96");
}

/* ---- What else an SA says ---- */

static void source_is_open_behind_nat_and_whole_elsewhere(void **state)
{
	static const struct sa_address any;
	struct xfrm_message m = recorded("encapsulated");

	(void)state;
	assert_int_equal(m.kind, XFRM_PUT);
	assert_memory_equal(&m.item.record.src, &any, sizeof(any));
	assert_int_equal(m.item.record.dst.value[3], 2);
	m = recorded("ipv6");
	assert_int_equal(m.item.record.src.family, 6);
	assert_memory_equal(m.item.record.src.value, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1",
			    16);
	assert_memory_equal(m.item.record.dst.value, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2",
			    16);
	assert_true(sa_address_is_whole(&m.item.record.dst));
}

static void ties_to_a_connection_are_kept(void **state)
{
	struct xfrm_message m = recorded("tied");

	(void)state;
	assert_int_equal(m.item.reqid, 7);
	assert_int_equal(m.item.if_id, 0x2a);
	assert_int_equal(m.item.mark, 5); // 0x30005 under the mask 0xffff
	assert_string_equal(m.item.connection, "");
}

static void sequence_numbers_give_the_high_half_and_the_direction(void **state)
{
	static const struct {
		const char *name;
		uint32_t high;
		bool is_esn, is_inbound;
	} rows[] = {
		{"esn", 0, true, false},	  {"esn-inbound", 3, true, true},
		{"esn-outbound", 2, true, false}, {"inbound", 0, false, true},
		{"outbound", 0, false, false},	  {"gcm-128-icv-128", 0, false, false},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct xfrm_message m = recorded(rows[i].name);

		assert_int_equal(m.item.record.esn_high, rows[i].high);
		assert_int_equal(m.item.record.flags, rows[i].is_esn ? SA_ESN : 0);
		assert_int_equal(m.item.is_inbound, rows[i].is_inbound);
	}
}

static void selector_names_the_remote_subnet_once_the_direction_is_known(void **state)
{
	struct xfrm_message m = recorded("inbound");

	(void)state;
	assert_int_equal(m.item.remote.family, 4);
	assert_int_equal(m.item.remote.prefix_len, 16);
	assert_memory_equal(m.item.remote.addr, "\x0a\x01\0\0", 4);
	m = recorded("outbound");
	assert_memory_equal(m.item.remote.addr, "\x0a\x01\0\0", 4);
	m = recorded("selector-6-in-4");
	assert_int_equal(m.item.record.dst.family, 4);
	assert_int_equal(m.item.remote.family, 6);
	assert_int_equal(m.item.remote.prefix_len, 48);
	assert_memory_equal(m.item.remote.addr, "\x20\x01\x0d\xb8\0\x0b\0\0", 8);
	m = recorded("transport-selector"); // a selector, and nothing was sent yet
	assert_int_equal(m.item.record.mode, SA_MODE_TRANSPORT);
	assert_int_equal(m.item.remote.family, 0);
	m = recorded("esn-outbound"); // 0.0.0.0/0 is nobody's
	assert_int_equal(m.item.remote.family, 0);
}

/* ---- Events ---- */

static void assert_kind(const char *name, enum xfrm_kind kind)
{
	struct xfrm_message m = recorded(name);

	if (m.kind != kind)
		fail_msg("%s: kind %d and not %d", name, m.kind, kind);
}

static void events_are_what_happened(void **state)
{
	(void)state;
	assert_kind("update", XFRM_PUT);
	assert_kind("added-hard", XFRM_PUT);
	assert_kind("delete", XFRM_REMOVED);
	assert_kind("delete-6", XFRM_REMOVED);
	assert_kind("delete-tied", XFRM_REMOVED);
	assert_kind("expire-hard", XFRM_REMOVED);
	assert_kind("expire-soft", XFRM_IGNORED);
	assert_kind("flush-esp", XFRM_FLUSHED);
	assert_kind("flush-all", XFRM_FLUSHED);
	assert_kind("flush-ah", XFRM_FOREIGN);
	assert_kind("ah", XFRM_FOREIGN);
	assert_kind("ipcomp", XFRM_FOREIGN);
	assert_kind("delete-ah", XFRM_FOREIGN);
}

static void what_is_gone_is_the_same_sa_as_what_was_there(void **state)
{
	static const char *const pairs[][2] = {{"gcm-128-icv-128", "delete"},
					       {"ipv6", "delete-6"},
					       {"tied", "delete-tied"},
					       {"added-hard", "expire-hard"}};

	(void)state;
	for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct xfrm_message there = recorded(pairs[i][0]), gone = recorded(pairs[i][1]);

		assert_true(sa_item_is_same_sa(&there.item, &gone.item));
	}
}

static void dump_is_all_sas_and_its_end(void **state)
{
	static uint8_t bytes[ROOM_BYTES];
	unsigned n[XFRM_MALFORMED + 1] = {0};
	enum xfrm_kind last = XFRM_IGNORED;
	struct xfrm_message m;
	uint32_t spis = 0;

	(void)state;
	for (unsigned i = 1; i <= 3; i++) {
		char name[16];
		struct xfrm_reader reader;
		size_t length;

		(void)snprintf(name, sizeof(name), "dump.%u", i);
		length = load(name, bytes);
		reader = xfrm_reader_over(place(bytes, length), length);
		while (xfrm_read(&reader, &m)) {
			assert_true(m.is_dump);
			assert_false(m.is_interrupted);
			n[m.kind]++;
			spis += m.kind == XFRM_PUT ? m.item.record.spi : 0;
			last = m.kind;
		}
	}
	assert_int_equal(n[XFRM_PUT], 37);
	assert_int_equal(spis, 36 * 0x100 + 36 * 37 / 2 + 0x201); // 0x101 to 0x124, and 0x201
	assert_int_equal(n[XFRM_FOREIGN], 3); // AH, IPComp and the tunnel that it brings
	assert_int_equal(n[XFRM_LARVAL], 1);
	assert_int_equal(n[XFRM_DUMP_END], 1);
	assert_int_equal(last, XFRM_DUMP_END);
	assert_int_equal(n[XFRM_MALFORMED], 0);
}

/* ---- Made by hand: what the recording kernel does not say ---- */

static struct xfrm_message read_made(uint16_t type, uint16_t flags, const void *payload, size_t n)
{
	uint8_t bytes[256] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(bytes);

	h->nlmsg_type = type;
	h->nlmsg_flags = flags;
	if (n > 0)
		memcpy(mnl_nlmsg_put_extra_header(h, n), payload, n);
	return read_first(bytes, h->nlmsg_len);
}

static void ends_and_refusals_carry_the_kernels_error(void **state)
{
	struct nlmsgerr refusal = {.error = -EPERM};
	int error = -EINTR;
	struct xfrm_message m = read_made(NLMSG_ERROR, 0, &refusal, sizeof(refusal));

	(void)state;
	assert_int_equal(m.kind, XFRM_REFUSED);
	assert_int_equal(m.error, -EPERM);
	m = read_made(NLMSG_DONE, NLM_F_MULTI | NLM_F_DUMP_INTR, &error, sizeof(error));
	assert_int_equal(m.kind, XFRM_DUMP_END);
	assert_int_equal(m.error, -EINTR);
	assert_true(m.is_dump && m.is_interrupted);
	m = read_made(NLMSG_DONE, NLM_F_MULTI, NULL, 0);
	assert_int_equal(m.kind, XFRM_DUMP_END);
	assert_int_equal(m.error, 0);
	error = 1; // no errno
	assert_int_equal(read_made(NLMSG_DONE, 0, &error, sizeof(error)).kind, XFRM_MALFORMED);
	assert_int_equal(read_made(NLMSG_ERROR, 0, NULL, 0).kind, XFRM_MALFORMED);
}

static void migration_and_unknown_types_are_told_apart(void **state)
{
	(void)state;
	assert_int_equal(read_made(XFRM_MSG_MIGRATE, 0, NULL, 0).kind, XFRM_MIGRATED);
	assert_int_equal(read_made(XFRM_MSG_NEWPOLICY, 0, NULL, 0).kind, XFRM_IGNORED);
	assert_int_equal(read_made(NLMSG_NOOP, 0, NULL, 0).kind, XFRM_IGNORED);
	assert_int_equal(read_made(NLMSG_OVERRUN, 0, NULL, 0).kind, XFRM_MALFORMED);
}

static void several_messages_of_a_datagram_are_read_one_after_the_other(void **state)
{
	static uint8_t bytes[ROOM_BYTES];
	size_t n = load("gcm-128-icv-128", bytes);
	struct xfrm_reader reader;
	struct xfrm_message m;

	(void)state;
	n += load("delete", bytes + n);
	n += load("flush-esp", bytes + n);
	reader = xfrm_reader_over(place(bytes, n), n);
	assert_true(xfrm_read(&reader, &m) && m.kind == XFRM_PUT);
	assert_true(xfrm_read(&reader, &m) && m.kind == XFRM_REMOVED);
	assert_int_equal(m.item.record.enc_key_bytes, 0); // nothing of the one before
	assert_true(xfrm_read(&reader, &m) && m.kind == XFRM_FLUSHED);
	assert_false(xfrm_read(&reader, &m));
}

/* A recording with a field of its usersa_info changed. */
static struct xfrm_message changed(const char *name, size_t offset, const void *value, size_t n)
{
	static uint8_t bytes[ROOM_BYTES];
	size_t length = load(name, bytes);

	memcpy(bytes + NLMSG_HDRLEN + offset, value, n);
	return read_first(bytes, length);
}

#define CHANGED(name, field, value)                                                      \
	changed(name, offsetof(struct xfrm_usersa_info, field), &(typeof(value)){value}, \
		sizeof(value))

static void fields_out_of_range_are_no_sa(void **state)
{
	struct xfrm_message m = CHANGED("gcm-128-icv-128", id.spi, (uint32_t)0);

	(void)state;
	assert_int_equal(m.kind, XFRM_LARVAL);
	assert_int_equal(CHANGED("gcm-128-icv-128", family, (uint16_t)99).kind, XFRM_MALFORMED);
	assert_int_equal(CHANGED("gcm-128-icv-128", id.daddr, (uint32_t)0).kind, XFRM_MALFORMED);
	m = CHANGED("gcm-128-icv-128", saddr, (uint32_t)0);
	assert_int_equal(m.kind, XFRM_PUT);
	assert_int_equal(m.item.record.src.family, 0);
	m = CHANGED("outbound", sel.prefixlen_d, (uint8_t)33);
	assert_int_equal(m.item.remote.family, 0);
	m = CHANGED("outbound", sel.prefixlen_d, (uint8_t)9);
	assert_memory_equal(m.item.remote.addr, "\x0a\0\0\0", 4); // no host bits
}

static void modes_that_gatecap_does_not_read_are_named(void **state)
{
	static const struct {
		uint8_t mode;
		const char *text;
	} rows[] = {
		{XFRM_MODE_ROUTEOPTIMIZATION, "route optimization: rfc4106(gcm(aes)) 128"},
		{XFRM_MODE_IN_TRIGGER, "unknown mode: rfc4106(gcm(aes)) 128"},
		{5, "unknown mode: rfc4106(gcm(aes)) 128"}, // IP-TFS of Linux 6.14
	};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct xfrm_message m = CHANGED("gcm-128-icv-128", mode, rows[i].mode);

		assert_int_equal(m.fault, XFRM_UNSUPPORTED);
		assert_int_equal(m.item.record.cipher, ESP_UNSUPPORTED);
		assert_string_equal(m.item.algorithm, rows[i].text);
	}
}

static struct xfrm_message with_direction(const char *name, uint8_t direction)
{
	static uint8_t bytes[ROOM_BYTES];

	(void)load(name, bytes);
	mnl_attr_put_u8((struct nlmsghdr *)bytes, SA_DIR, direction);
	return read_first(bytes, ((struct nlmsghdr *)bytes)->nlmsg_len);
}

static void direction_that_the_kernel_says_goes_before_what_was_counted(void **state)
{
	struct xfrm_message m = with_direction("outbound", 1);

	(void)state;
	assert_true(m.item.is_inbound);
	assert_memory_equal(m.item.remote.addr, "\x0a\x02\0\0", 4);
	m = with_direction("inbound", 2);
	assert_false(m.item.is_inbound);
	m = with_direction("inbound", 7); // says nothing
	assert_true(m.item.is_inbound);
}

/* Where an attribute's payload begins. */
static uint8_t *payload_of(uint8_t *bytes, unsigned type)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)bytes;
	struct nlattr *a = mnl_nlmsg_get_payload_offset(h, sizeof(struct xfrm_usersa_info));

	for (; (uint8_t *)a < bytes + h->nlmsg_len; a = mnl_attr_next(a))
		if (mnl_attr_get_type(a) == type)
			return mnl_attr_get_payload(a);
	fail_msg("there is no attribute %u", type);
	return NULL;
}

static void algorithms_that_say_what_cannot_be_are_malformed_or_unsupported(void **state)
{
	static uint8_t bytes[ROOM_BYTES];
	size_t n = load("gcm-128-icv-128", bytes);
	struct xfrm_algo_aead *a = (void *)payload_of(bytes, XFRMA_ALG_AEAD);

	(void)state;
	a->alg_key_len += 8; // one byte more than there is
	assert_int_equal(read_first(bytes, n).kind, XFRM_MALFORMED);
	a->alg_key_len = UINT32_MAX;
	assert_int_equal(read_first(bytes, n).kind, XFRM_MALFORMED);
	a->alg_key_len = 152; // 19 bytes are no key of GCM
	assert_int_equal(read_first(bytes, n).fault, XFRM_UNSUPPORTED);
	a->alg_key_len = 160;
	assert_int_equal(read_first(bytes, n).fault, XFRM_FINE);
	a->alg_icv_len = 100;
	assert_int_equal(read_first(bytes, n).fault, XFRM_UNSUPPORTED);
	a->alg_icv_len = UINT32_MAX - 7;
	assert_int_equal(read_first(bytes, n).fault, XFRM_UNSUPPORTED);
	a->alg_icv_len = 128;
	a->alg_name[0] = '\x1b';
	assert_string_equal(read_first(bytes, n).item.algorithm, "?fc4106(gcm(aes)) 128");
	memset(a->alg_name, 'x', sizeof(a->alg_name)); // without an end
	assert_int_equal(read_first(bytes, n).kind, XFRM_MALFORMED);
	a->alg_name[0] = '\0';
	assert_int_equal(read_first(bytes, n).kind, XFRM_MALFORMED);
}

/* ---- Cut, and changed ---- */

/* What an item may be, whatever the bytes were. */
static void assert_sane(const struct xfrm_message *m)
{
	const struct sa_record *r = &m->item.record;

	assert_true(m->kind <= XFRM_MALFORMED);
	assert_non_null(memchr(m->item.algorithm, '\0', ALGORITHM_TEXT_MAX));
	if (m->kind != XFRM_PUT && m->kind != XFRM_REMOVED)
		return;
	assert_true(sa_address_is_whole(&r->dst));
	assert_true(r->src.family == 0 || sa_address_is_whole(&r->src));
	assert_true(m->item.remote.family == 0 ||
		    m->item.remote.prefix_len <= (m->item.remote.family == 4 ? 32 : 128));
	if (m->kind == XFRM_REMOVED)
		return;
	assert_true(r->cipher == ESP_UNSUPPORTED
			    ? m->fault != XFRM_FINE && r->enc_key_bytes == 0
			    : m->fault == XFRM_FINE &&
				      esp_takes_key((enum esp_cipher)r->cipher, r->enc_key_bytes) &&
				      esp_takes_icv((enum esp_cipher)r->cipher,
						    (enum esp_auth)r->auth, r->icv_bytes));
}

static void cut_everywhere(const uint8_t *bytes, size_t n)
{
	static uint8_t copy[ROOM_BYTES];
	struct xfrm_message m;

	for (size_t cut = 1; cut < n; cut++) {
		m = read_first(bytes, cut);
		if (m.kind != XFRM_MALFORMED)
			fail_msg("%zu of %zu bytes are read as kind %d", cut, n, m.kind);
		if (cut < sizeof(struct nlmsghdr))
			continue;
		memcpy(copy, bytes, cut); // and now it says that it is so short
		((struct nlmsghdr *)copy)->nlmsg_len = (uint32_t)cut;
		m = read_first(copy, cut);
		assert_sane(&m);
		if (m.kind == XFRM_PUT && m.fault == XFRM_FINE)
			assert_true(
				is_counting(m.item.record.enc_key, m.item.record.enc_key_bytes));
	}
}

static void change_every_byte(const uint8_t *bytes, size_t n)
{
	static const uint8_t patterns[] = {0x01, 0x80, 0xff, 0x10};
	static uint8_t copy[ROOM_BYTES];

	memcpy(copy, bytes, n);
	for (size_t i = 0; i < n; i++) {
		for (unsigned p = 0; p < sizeof(patterns); p++) {
			struct xfrm_reader reader;
			struct xfrm_message m;

			copy[i] ^= patterns[p];
			reader = xfrm_reader_over(place(copy, n), n);
			while (xfrm_read(&reader, &m))
				assert_sane(&m);
			copy[i] = bytes[i];
		}
	}
}

/* Only those that are one message: the dumps are several. */
static void for_each_recording(void (*what)(const uint8_t *bytes, size_t n))
{
	static uint8_t bytes[ROOM_BYTES];
	glob_t found;
	unsigned n_done = 0;

	assert_int_equal(glob(FOLDER "*.nl", 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char name[64];

		if (strncmp(found.gl_pathv[i], FOLDER "dump", strlen(FOLDER "dump")) == 0)
			continue;
		(void)snprintf(name, sizeof(name), "%.*s",
			       (int)(strlen(found.gl_pathv[i]) - strlen(FOLDER) - strlen(".nl")),
			       found.gl_pathv[i] + strlen(FOLDER));
		what(bytes, load(name, bytes));
		n_done++;
	}
	globfree(&found);
	assert_true(n_done > 40);
}

static void message_cut_anywhere_is_refused_or_harmless(void **state)
{
	(void)state;
	for_each_recording(cut_everywhere);
}

static void message_with_any_byte_changed_gives_a_sane_sa_or_none(void **state)
{
	(void)state;
	for_each_recording(change_every_byte);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_algorithm_that_a_kernel_told_is_read),
		cmocka_unit_test(what_gatecap_does_not_read_is_known_by_name_and_has_no_key),
		cmocka_unit_test(keys_that_are_all_zero_are_hidden_ones),
		cmocka_unit_test(source_is_open_behind_nat_and_whole_elsewhere),
		cmocka_unit_test(ties_to_a_connection_are_kept),
		cmocka_unit_test(sequence_numbers_give_the_high_half_and_the_direction),
		cmocka_unit_test(selector_names_the_remote_subnet_once_the_direction_is_known),
		cmocka_unit_test(events_are_what_happened),
		cmocka_unit_test(what_is_gone_is_the_same_sa_as_what_was_there),
		cmocka_unit_test(dump_is_all_sas_and_its_end),
		cmocka_unit_test(ends_and_refusals_carry_the_kernels_error),
		cmocka_unit_test(migration_and_unknown_types_are_told_apart),
		cmocka_unit_test(several_messages_of_a_datagram_are_read_one_after_the_other),
		cmocka_unit_test(fields_out_of_range_are_no_sa),
		cmocka_unit_test(modes_that_gatecap_does_not_read_are_named),
		cmocka_unit_test(direction_that_the_kernel_says_goes_before_what_was_counted),
		cmocka_unit_test(algorithms_that_say_what_cannot_be_are_malformed_or_unsupported),
		cmocka_unit_test(message_cut_anywhere_is_refused_or_harmless),
		cmocka_unit_test(message_with_any_byte_changed_gives_a_sane_sa_or_none),
	};

	return cmocka_run_group_tests(tests, make_room, NULL);
}
