/* slow_classify.c - offsets are 64 bits wide and every read asks first; nothing is clever. */
#include "tests/slow_classify.h"

#include <assert.h>
#include <string.h>

struct bytes {
	const uint8_t *data;
	uint64_t len;
};

/* A big-endian number of n bytes, or -1 when it is not all there. */
static int64_t number(struct bytes b, uint64_t at, unsigned n)
{
	int64_t value = 0;

	if (at + n > b.len)
		return -1;
	for (unsigned i = 0; i < n; i++)
		value = value * 256 + b.data[at + i];
	return value;
}

static uint64_t ether_end(struct bytes b, int64_t *type)
{
	uint64_t at = 12;

	for (int tags = 0;; tags++) {
		*type = number(b, at, 2);
		at += 2;
		if (tags == 4 ||
		    (*type != 0x8100 && *type != 0x88a8 && *type != 0x9100 && *type != 0x9200))
			return at;
		at += 2;
	}
}

static void ports_parse(struct bytes b, struct slow_packet *p)
{
	int64_t needs = 0;

	switch (p->protocol) {
	case 17:
	case 136:
		needs = 8;
		break;
	case 6:
		needs = 20;
		break;
	case 33:
	case 132:
		needs = 12;
		break;
	default:
		return;
	}
	if (number(b, p->l4, 4) >= 0) {
		p->sport = (int)number(b, p->l4, 2);
		p->dport = (int)number(b, p->l4 + 2, 2);
	}
	if (number(b, p->l4 + (uint64_t)needs - 1, 1) < 0)
		p->broken = 1;
	else if (p->protocol == 17 && number(b, p->l4 + 4, 2) >= 1 && number(b, p->l4 + 4, 2) <= 7)
		p->broken = 1;
	else if (p->protocol == 6 && number(b, p->l4 + 12, 1) < 0x50)
		p->broken = 1;
	else if (p->protocol == 6)
		p->tcp_flags = (int)number(b, p->l4 + 13, 1);
}

/* The bytes that the header at `at` takes, or -1 when it is cut, lies, or is no extension. */
static int64_t extension_bytes(struct bytes b, const struct slow_packet *p, uint64_t at)
{
	int64_t length = number(b, at + 1, 1);

	if (p->protocol == 51)
		return number(b, at + 11, 1) < 0 || length < 1 ? -1 : (length + 2) * 4;
	if (p->protocol == 44)
		return 8;
	return number(b, at + 7, 1) < 0 ? -1 : (length + 1) * 8;
}

static int is_extension(const struct slow_packet *p)
{
	if (p->later)
		return 0;
	if (p->family == 4)
		return p->protocol == 51;
	return p->protocol == 0 || p->protocol == 43 || p->protocol == 44 || p->protocol == 51 ||
	       p->protocol == 60;
}

static void extensions_parse(struct bytes b, struct slow_packet *p)
{
	int n_fragment_headers = 0;

	for (int n = 0; is_extension(p); n++) {
		int64_t bytes = extension_bytes(b, p, p->l4);

		if (n == 8 || bytes < 0 || number(b, p->l4 + (uint64_t)bytes - 1, 1) < 0 ||
		    (p->protocol == 44 && n_fragment_headers++ > 0)) {
			p->broken = 1;
			return;
		}
		if (p->protocol == 44) {
			int64_t field = number(b, p->l4 + 2, 2);

			p->id = (uint32_t)number(b, p->l4 + 4, 4);
			p->later = field / 8 > 0;
			p->first = field / 8 == 0 && field % 2 == 1;
		}
		p->protocol = (int)number(b, p->l4, 1);
		p->l4 += (uint32_t)bytes;
	}
	if (!p->later)
		ports_parse(b, p);
}

static void ipv4_parse(struct bytes b, uint64_t at, struct slow_packet *p)
{
	int64_t first = number(b, at, 1), total = number(b, at + 2, 2), field;
	uint64_t header;

	p->broken = 1;
	if (number(b, at + 19, 1) < 0 || first / 16 != 4)
		return;
	if (total != 0 && at + (uint64_t)total < b.len)
		b.len = at + (uint64_t)total;
	header = (uint64_t)(first % 16) * 4;
	if (header < 20 || number(b, at + header - 1, 1) < 0)
		return;
	p->broken = 0;
	p->family = 4;
	p->protocol = p->ip_protocol = b.data[at + 9];
	p->id = (uint32_t)number(b, at + 4, 2);
	field = b.data[at + 6] * 256 + b.data[at + 7];
	p->later = field % 8192 != 0;
	p->first = !p->later && field / 8192 % 2 == 1;
	p->src = (uint32_t)at + 12;
	p->dst = (uint32_t)at + 16;
	p->l3 = (uint32_t)at;
	p->l4 = (uint32_t)(at + header);
	p->end = (uint32_t)b.len;
	extensions_parse(b, p);
}

static void ipv6_parse(struct bytes b, uint64_t at, struct slow_packet *p)
{
	int64_t payload = number(b, at + 4, 2);

	if (number(b, at + 39, 1) < 0 || number(b, at, 1) / 16 != 6) {
		p->broken = 1;
		return;
	}
	p->family = 6;
	p->protocol = (int)number(b, at + 6, 1);
	if ((payload > 0 || p->protocol == 59) && at + 40 + (uint64_t)payload < b.len)
		b.len = at + 40 + (uint64_t)payload;
	p->src = (uint32_t)at + 8;
	p->dst = (uint32_t)at + 24;
	p->l3 = (uint32_t)at;
	p->l4 = (uint32_t)at + 40;
	p->end = (uint32_t)b.len;
	extensions_parse(b, p);
}

void slow_parse(const uint8_t *data, uint32_t len, struct slow_packet *p)
{
	struct bytes b = {data, len};
	int64_t type;
	uint64_t at = ether_end(b, &type);

	*p = (struct slow_packet){.sport = -1, .dport = -1, .tcp_flags = -1};
	if (type < 0)
		p->broken = 1;
	else if (type == 0x0800)
		ipv4_parse(b, at, p);
	else if (type == 0x86dd)
		ipv6_parse(b, at, p);
}

static int endpoint_matches(const struct ovpn_endpoint *e, const uint8_t *data,
			    const struct slow_packet *p)
{
	int by_source = p->sport == e->port, by_destination = p->dport == e->port;
	size_t n = p->family == 4 ? 4 : 16;

	if (e->protocol != p->protocol)
		return 0;
	if (e->family != 0) {
		if (e->family != p->family)
			return 0;
		by_source = by_source && memcmp(data + p->src, e->address, n) == 0;
		by_destination = by_destination && memcmp(data + p->dst, e->address, n) == 0;
	}
	return by_source || by_destination;
}

static int udp4500_class(const uint8_t *data, const struct slow_packet *p)
{
	struct bytes b = {data, p->end};
	int64_t claimed = number(b, p->l4 + 4, 2) - 8, word = number(b, p->l4 + 8, 4);

	if (claimed < 0)
		claimed = (int64_t)p->end - p->l4 - 8;
	if (claimed == 1 && number(b, p->l4 + 8, 1) == 0xff)
		return CLASS_IKE;
	if (claimed >= 4 && word == 0)
		return CLASS_IKE;
	return claimed > 4 && word > 0 ? CLASS_ESP : CLASS_OTHER;
}

static int tcp4500_class(const uint8_t *data, const struct slow_packet *p)
{
	struct bytes b = {data, p->end};
	uint64_t at = p->l4 + (uint64_t)(data[p->l4 + 12] / 16) * 4;

	if (at >= b.len)
		return CLASS_IKE;
	if (number(b, at, 6) == 0x494b45544350) // IKETCP
		return CLASS_IKE;
	if (number(b, at, 6) >= 0 && number(b, at + 2, 4) == 0)
		return CLASS_IKE;
	return b.len - at == 3 && number(b, at, 3) == 0x0003ff ? CLASS_IKE : CLASS_ESP;
}

static int whole_class(const struct slow_classifier *s, const uint8_t *data,
		       const struct slow_packet *p)
{
	if (p->protocol == 50)
		return CLASS_ESP;
	for (unsigned i = 0; i < s->n_endpoints; i++) {
		if (endpoint_matches(&s->endpoints[i], data, p))
			return CLASS_OVPN;
	}
	if (p->protocol == 17 && (p->sport == 4500 || p->dport == 4500))
		return udp4500_class(data, p);
	if (p->protocol == 6 && (p->sport == 4500 || p->dport == 4500))
		return tcp4500_class(data, p);
	if (p->protocol == 17 && (p->sport == 500 || p->dport == 500))
		return CLASS_IKE;
	return CLASS_OTHER;
}

static void fragment_key(const uint8_t *data, const struct slow_packet *p, uint8_t key[48])
{
	size_t n = p->family == 4 ? 4 : 16;

	memset(key, 0, 48);
	memcpy(key, data + p->src, n);
	memcpy(key + 16, data + p->dst, n);
	memcpy(key + 32, &p->id, 4);
	key[36] = (uint8_t)p->family;
	key[37] = p->family == 4 ? (uint8_t)p->ip_protocol : 0;
}

static int later_class(struct slow_classifier *s, const uint8_t *data, const struct slow_packet *p,
		       uint64_t time_ns, int *verdict)
{
	uint8_t key[48];

	fragment_key(data, p, key);
	for (unsigned i = s->n_fragments; i > 0; i--) {
		const struct slow_fragment *f = &s->fragments[i - 1];

		if (memcmp(f->key, key, sizeof(key)) != 0)
			continue;
		if (time_ns - f->time_ns > 30000000000)
			break;
		*verdict = f->class_ == CLASS_OTHER ? VERDICT_OTHER : VERDICT_COUNT;
		return f->class_;
	}
	*verdict = p->protocol == 50 ? VERDICT_COUNT : VERDICT_FRAGMENT_NO_FIRST;
	return p->protocol == 50 ? CLASS_ESP : CLASS_OTHER;
}

int slow_outer_class(struct slow_classifier *s, const uint8_t *data, uint32_t len, uint64_t time_ns,
		     int *verdict)
{
	struct slow_packet p;
	int class_ = CLASS_OTHER;

	slow_parse(data, len, &p);
	if (p.later)
		return later_class(s, data, &p, time_ns, verdict);
	if (!p.broken && p.family != 0)
		class_ = whole_class(s, data, &p);
	*verdict = p.broken		   ? VERDICT_MALFORMED
		   : class_ == CLASS_OTHER ? VERDICT_OTHER
					   : VERDICT_COUNT;
	if (p.first) {
		struct slow_fragment *f = &s->fragments[s->n_fragments++];

		assert(s->n_fragments <= SLOW_FRAGMENTS_MAX);
		fragment_key(data, &p, f->key);
		f->time_ns = time_ns;
		f->class_ = class_;
	}
	return class_;
}
