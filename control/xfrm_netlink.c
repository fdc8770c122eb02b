/* xfrm_netlink.c - libmnl walks messages and attributes, this file knows what is in them.
 *
 * An SA's source is left open behind NAT (XFRMA_ENCAP): the wire's is what the NAT made of it.  So it is
 * for what is gone: the kernel knows an SA by SPI and destination.
 * Direction: Linux before 6.10 does not know it.  It is told by what the SA counted: only what is sent
 * has an outgoing sequence number, only what is received moves the replay window.  A selector says which
 * subnet is the remote one once the direction is known; before, it says nothing.
 * Larval SAs have an SPI and no algorithm; they come again (UPDSA) when they have keys.
 * Structs are copied out: netlink aligns to 4 bytes, and xfrm_usersa_info has 8-byte fields.
 */
#include "control/xfrm_netlink.h"

#include <arpa/inet.h>
#include <assert.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "control/xfrm_algorithm.h"

enum {
	SA_DIR = 33, // XFRMA_SA_DIR of Linux 6.10; Debian 12's headers do not have it
	SA_DIR_IN = 1,
	SA_DIR_OUT = 2,
	ATTRIBUTES = SA_DIR + 1,
	PROTO_ALL = 255, // IPSEC_PROTO_ANY of a flush; 0 is the same
	ICV_OFFSET = XFRM_NAME_MAX + sizeof(uint32_t),
};

static_assert(sizeof(struct xfrm_algo) == ICV_OFFSET &&
		      sizeof(struct xfrm_algo_auth) == ICV_OFFSET + sizeof(uint32_t) &&
		      sizeof(struct xfrm_algo_aead) == sizeof(struct xfrm_algo_auth),
	      "three structs, one shape: name, key length, ICV length, key");

struct attributes {
	const struct nlattr *of[ATTRIBUTES];
};

/* ---- Taking apart ---- */

/* The fixed part of a message. */
static bool take_head(const struct nlmsghdr *h, void *head, size_t bytes)
{
	if (mnl_nlmsg_get_payload_len(h) < bytes)
		return false;
	memcpy(head, mnl_nlmsg_get_payload(h), bytes);
	return true;
}

/* What follows the fixed part; false: there are bytes that are no attribute. */
static bool take_attributes(const struct nlmsghdr *h, size_t head_bytes, struct attributes *out)
{
	const char *end = (const char *)h + h->nlmsg_len;
	const struct nlattr *a = mnl_nlmsg_get_payload_offset(h, head_bytes);

	memset(out, 0, sizeof(*out));
	for (; (const char *)a < end; a = mnl_attr_next(a)) {
		if (!mnl_attr_ok(a, (int)(end - (const char *)a)))
			return false;
		if (mnl_attr_get_type(a) < ATTRIBUTES)
			out->of[mnl_attr_get_type(a)] = a;
	}
	return true;
}

/* The first bytes of an attribute; false: it is there, and shorter.  Not there: zeros. */
static bool take_fixed(const struct attributes *a, unsigned type, void *value, size_t bytes)
{
	memset(value, 0, bytes);
	if (a->of[type] == NULL)
		return true;
	if (mnl_attr_get_payload_len(a->of[type]) < bytes)
		return false;
	memcpy(value, mnl_attr_get_payload(a->of[type]), bytes);
	return true;
}

/* head_bytes: with the length of an ICV or without it. */
static bool take_algorithm(const struct nlattr *a, size_t head_bytes, struct xfrm_algorithm *out)
{
	const uint8_t *at;
	uint32_t key_bits;

	memset(out, 0, sizeof(*out));
	if (a == NULL)
		return true;
	if (mnl_attr_get_payload_len(a) < head_bytes)
		return false;
	at = mnl_attr_get_payload(a);
	memcpy(out->name, at, XFRM_NAME_MAX);
	memcpy(&key_bits, at + XFRM_NAME_MAX, sizeof(key_bits));
	if (head_bytes > ICV_OFFSET)
		memcpy(&out->icv_bits, at + ICV_OFFSET, sizeof(out->icv_bits));
	out->key = at + head_bytes;
	out->key_bytes = key_bits / 8 + (key_bits % 8 != 0);
	return memchr(out->name, '\0', XFRM_NAME_MAX) != NULL && out->name[0] != '\0' &&
	       out->key_bytes <= mnl_attr_get_payload_len(a) - head_bytes;
}

static bool take_algorithms(const struct attributes *a, struct xfrm_algorithms *out)
{
	const struct nlattr *trunc = a->of[XFRMA_ALG_AUTH_TRUNC];

	if (!take_algorithm(a->of[XFRMA_ALG_AEAD], sizeof(struct xfrm_algo_aead), &out->aead) ||
	    !take_algorithm(a->of[XFRMA_ALG_CRYPT], sizeof(struct xfrm_algo), &out->crypt))
		return false;
	// The kernel sends both, the older one without the length.
	return trunc != NULL ? take_algorithm(trunc, sizeof(struct xfrm_algo_auth), &out->auth)
			     : take_algorithm(a->of[XFRMA_ALG_AUTH], sizeof(struct xfrm_algo),
					      &out->auth);
}

/* ---- Addresses ---- */

static bool is_any(const xfrm_address_t *a, uint16_t family)
{
	return family == AF_INET ? a->a4 == 0 : (a->a6[0] | a->a6[1] | a->a6[2] | a->a6[3]) == 0;
}

static bool is_family(uint16_t family)
{
	return family == AF_INET || family == AF_INET6;
}

static void set_address(struct sa_address *out, const xfrm_address_t *a, uint16_t family)
{
	unsigned n = family == AF_INET ? 4 : 16;

	memset(out, 0, sizeof(*out));
	out->family = family == AF_INET ? 4 : 6;
	memcpy(out->value, a, n);
	memset(out->mask, 0xff, n);
}

static void set_subnet(struct set_subnet *out, const xfrm_address_t *a, uint16_t family,
		       unsigned prefix_len)
{
	unsigned bits = family == AF_INET ? 32 : 128;

	memset(out, 0, sizeof(*out));
	if (prefix_len == 0 || prefix_len > bits) // all the world is no connection's subnet
		return;
	out->family = family == AF_INET ? 4 : 6;
	out->prefix_len = (uint8_t)prefix_len;
	memcpy(out->addr, a, bits / 8);
	for (unsigned i = prefix_len; i < bits; i++)
		out->addr[i / 8] &= (uint8_t) ~(0x80U >> i % 8);
}

/* ---- One SA ---- */

enum direction { DIRECTION_UNKNOWN, DIRECTION_IN, DIRECTION_OUT };

/* Sequence numbers: the high half into the record, and what they say of the direction. */
static bool take_sequence(const struct attributes *a, struct sa_record *r, enum direction *out)
{
	struct xfrm_replay_state old;
	struct xfrm_replay_state_esn esn;
	uint8_t said;

	if (!take_fixed(a, XFRMA_REPLAY_VAL, &old, sizeof(old)) ||
	    !take_fixed(a, XFRMA_REPLAY_ESN_VAL, &esn, sizeof(esn)) ||
	    !take_fixed(a, SA_DIR, &said, sizeof(said)))
		return false;
	r->esn_high = esn.seq_hi > esn.oseq_hi ? esn.seq_hi : esn.oseq_hi;
	if (said == SA_DIR_IN || said == SA_DIR_OUT)
		*out = said == SA_DIR_IN ? DIRECTION_IN : DIRECTION_OUT;
	else if ((old.seq | esn.seq | esn.seq_hi) != 0)
		*out = DIRECTION_IN;
	else if ((old.oseq | esn.oseq | esn.oseq_hi) != 0)
		*out = DIRECTION_OUT;
	else
		*out = DIRECTION_UNKNOWN;
	return true;
}

static bool take_ties(const struct attributes *a, struct sa_item *item)
{
	struct xfrm_mark mark;

	if (!take_fixed(a, XFRMA_MARK, &mark, sizeof(mark)) ||
	    !take_fixed(a, XFRMA_IF_ID, &item->if_id, sizeof(item->if_id)))
		return false;
	item->mark = mark.v & mark.m;
	return true;
}

static void set_remote(const struct xfrm_selector *sel, enum direction direction,
		       struct sa_item *item)
{
	if (!is_family(sel->family) || direction == DIRECTION_UNKNOWN)
		return;
	if (direction == DIRECTION_IN)
		set_subnet(&item->remote, &sel->saddr, sel->family, sel->prefixlen_s);
	else
		set_subnet(&item->remote, &sel->daddr, sel->family, sel->prefixlen_d);
}

/* NULL: one that gatecap reads. */
static const char *set_mode(struct sa_record *r, uint8_t mode)
{
	switch (mode) {
	case XFRM_MODE_TUNNEL:
		r->mode = SA_MODE_TUNNEL;
		return NULL;
	case XFRM_MODE_TRANSPORT:
		r->mode = SA_MODE_TRANSPORT;
		return NULL;
	case XFRM_MODE_BEET:
		return "BEET mode: ";
	case XFRM_MODE_ROUTEOPTIMIZATION:
		return "route optimization: ";
	default:
		return "unknown mode: ";
	}
}

/* SPI and destination, by which the kernel knows an SA; false: not what an SA has. */
static bool set_identity(struct sa_record *r, uint32_t spi_be, const xfrm_address_t *daddr,
			 uint16_t family)
{
	r->spi = ntohl(spi_be);
	r->spi_mask = (uint32_t)SA_SPI_WHOLE;
	if (!is_family(family) || is_any(daddr, family))
		return false;
	set_address(&r->dst, daddr, family);
	return true;
}

static enum xfrm_kind read_put(const struct nlmsghdr *h, struct xfrm_message *out)
{
	struct sa_item *item = &out->item;
	struct xfrm_algorithms algorithms;
	struct xfrm_usersa_info info;
	enum direction direction;
	struct attributes a;
	const char *why;

	if (!take_head(h, &info, sizeof(info)) || !take_attributes(h, sizeof(info), &a) ||
	    !take_algorithms(&a, &algorithms) || !take_sequence(&a, &item->record, &direction) ||
	    !take_ties(&a, item))
		return XFRM_MALFORMED;
	if (info.id.proto != IPPROTO_ESP)
		return XFRM_FOREIGN;
	if (info.id.spi == 0 ||
	    (algorithms.aead.name[0] == '\0' && algorithms.crypt.name[0] == '\0'))
		return XFRM_LARVAL;
	if (!set_identity(&item->record, info.id.spi, &info.id.daddr, info.family))
		return XFRM_MALFORMED;
	if (a.of[XFRMA_ENCAP] == NULL && !is_any(&info.saddr, info.family))
		set_address(&item->record.src, &info.saddr, info.family);
	if ((info.flags & XFRM_STATE_ESN) != 0)
		item->record.flags = SA_ESN;
	item->reqid = info.reqid;
	item->is_inbound = direction == DIRECTION_IN;
	set_remote(&info.sel, direction, item);
	out->fault = xfrm_algorithm_decide(&algorithms, item);
	why = set_mode(&item->record, info.mode);
	if (why != NULL) {
		xfrm_algorithm_give_up(item, why);
		out->fault = XFRM_UNSUPPORTED;
	}
	return XFRM_PUT;
}

/* ---- What is gone ---- */

static enum xfrm_kind removed(struct xfrm_message *out, uint8_t proto, uint32_t spi_be,
			      const xfrm_address_t *daddr, uint16_t family)
{
	if (proto != IPPROTO_ESP)
		return XFRM_FOREIGN;
	return set_identity(&out->item.record, spi_be, daddr, family) ? XFRM_REMOVED
								      : XFRM_MALFORMED;
}

static enum xfrm_kind read_delete(const struct nlmsghdr *h, struct xfrm_message *out)
{
	struct xfrm_usersa_id id;

	if (!take_head(h, &id, sizeof(id)))
		return XFRM_MALFORMED;
	return removed(out, id.proto, id.spi, &id.daddr, id.family);
}

static enum xfrm_kind read_expire(const struct nlmsghdr *h, struct xfrm_message *out)
{
	struct xfrm_user_expire expire;
	const struct xfrm_usersa_info *sa = &expire.state;

	if (!take_head(h, &expire, sizeof(expire)))
		return XFRM_MALFORMED;
	if (expire.hard == 0) // time for a new one; this one goes on
		return XFRM_IGNORED;
	return removed(out, sa->id.proto, sa->id.spi, &sa->id.daddr, sa->family);
}

static enum xfrm_kind read_flush(const struct nlmsghdr *h)
{
	struct xfrm_usersa_flush flush;

	if (!take_head(h, &flush, sizeof(flush)))
		return XFRM_MALFORMED;
	if (flush.proto == IPPROTO_ESP || flush.proto == 0 || flush.proto == PROTO_ALL)
		return XFRM_FLUSHED;
	return XFRM_FOREIGN;
}

/* ---- Messages ---- */

/* Of NLMSG_ERROR and, when there is one, of NLMSG_DONE; what is no errno is -EPROTO's business. */
static bool take_error(const struct nlmsghdr *h, struct xfrm_message *out)
{
	if (!take_head(h, &out->error, sizeof(out->error)))
		return false;
	return out->error <= 0 && out->error > -4096;
}

static enum xfrm_kind read_one(const struct nlmsghdr *h, struct xfrm_message *out)
{
	switch (h->nlmsg_type) {
	case XFRM_MSG_NEWSA:
	case XFRM_MSG_UPDSA:
		return read_put(h, out);
	case XFRM_MSG_DELSA:
		return read_delete(h, out);
	case XFRM_MSG_EXPIRE:
		return read_expire(h, out);
	case XFRM_MSG_FLUSHSA:
		return read_flush(h);
	case XFRM_MSG_MIGRATE:
		return XFRM_MIGRATED;
	case NLMSG_DONE:
		if (mnl_nlmsg_get_payload_len(h) == 0)
			return XFRM_DUMP_END;
		return take_error(h, out) ? XFRM_DUMP_END : XFRM_MALFORMED;
	case NLMSG_ERROR:
		return take_error(h, out) ? XFRM_REFUSED : XFRM_MALFORMED;
	case NLMSG_OVERRUN:
		return XFRM_MALFORMED;
	default:
		return XFRM_IGNORED;
	}
}

/* mnl_nlmsg_ok() takes a length with the highest bit set for a negative one, which is less than any. */
static bool is_whole(const struct nlmsghdr *h, int left)
{
	return mnl_nlmsg_ok(h, left) && h->nlmsg_len <= (uint32_t)left;
}

bool xfrm_read(struct xfrm_reader *reader, struct xfrm_message *out)
{
	const struct nlmsghdr *h = reader->at;

	if (reader->left <= 0)
		return false;
	explicit_bzero(out, sizeof(*out));
	if (!is_whole(h, reader->left)) {
		out->kind = XFRM_MALFORMED;
		reader->left = 0;
		return true;
	}
	out->kind = read_one(h, out);
	out->is_dump = (h->nlmsg_flags & NLM_F_MULTI) != 0;
	out->is_interrupted = (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
	if (out->kind != XFRM_PUT && out->kind != XFRM_REMOVED)
		explicit_bzero(&out->item, sizeof(out->item));
	if (out->kind == XFRM_MALFORMED)
		reader->left = 0;
	else
		reader->at = mnl_nlmsg_next(h, &reader->left);
	return true;
}
