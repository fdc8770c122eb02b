/* known_traffic.c - few addresses and ports, so that scopes and filters say yes about as often as no. */
#include "tests/known_traffic.h"

#include <string.h>

#include "tests/slow_matcher.h"

enum { SYN = 2, ACK = 16, GATEWAY = 0x0a000001, CLIENTS = 24 };

static const uint8_t ovpn_reset[] = {0, 14, 7 << 3, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0};
static const uint8_t tls_hello[] = {0x16, 3, 1, 0, 4, 1, 0, 0, 0};

static const struct subnet peers[] = {{{10, 0, 0, 2}, 32, 4}, {{10, 0, 0, 3}, 32, 4}};
static const struct subnet remotes[] = {{{10, 1, 0, 0}, 16, 4}, {{10, 2, 0, 0}, 16, 4}};

void known_config(struct config *config)
{
	static struct connection connections[2];

	memset(config, 0, sizeof(*config));
	for (unsigned i = 0; i < 2; i++)
		connections[i] = (struct connection){
			.type = i == 0 ? CONNECTION_IPSEC : CONNECTION_OPENVPN,
			.peer = {.addresses = (struct subnet *)(uintptr_t)&peers[i],
				 .n_addresses = 1},
			.remote_subnets = (struct subnet *)(uintptr_t)&remotes[i],
			.n_remote_subnets = 1};
	config->connections = connections;
	config->n_connections = 2;
	config->gateway.endpoints[0] = (struct endpoint){.port = 1194, .protocol = 17};
	config->gateway.endpoints[1] =
		(struct endpoint){.port = 443, .protocol = 6, .shared = true};
	config->gateway.n_endpoints = 2;
}

void known_capture_throw(struct dice *d, struct known_capture *c, unsigned slot)
{
	static const uint32_t scopes[] = {SET_GATEWAY_WIDE, SET_GATEWAY_WIDE, 0, 1};
	static const unsigned flags[] = {11, 11, 11, 8, 9, 1, 3, 2};
	struct filter *f = &c->data.filters[0];

	memset(c, 0, sizeof(*c));
	c->data.tracing_flags = flags[dice_below(d, 8)];
	c->data.snap_bytes = dice_one_in(d, 3) ? 1 + dice_below(d, 150) : SNAP_BYTES_DEFAULT;
	c->data.n_filters = dice_below(d, 2);
	*f = (struct filter){.src = c->src, .dst_port = c->dport};
	if (dice_one_in(d, 2))
		c->src[f->n_src++] = remotes[dice_below(d, 2)];
	if (dice_one_in(d, 3))
		c->dport[f->n_dst_port++] = dice_one_in(d, 2) ? 80 : 53;
	f->tcp_flags = dice_one_in(d, 4) ? SYN : 0;
	f->single_direction = dice_one_in(d, 2);
	c->entry = (struct set_source_capture){.slot = slot,
					       .is_new = true,
					       .connection = scopes[dice_below(d, 4)],
					       .data = &c->data};
}

static void turn_half(struct dice *d, struct sent *s)
{
	struct sent was = *s;

	if (dice_one_in(d, 2))
		return;
	s->src = was.dst;
	s->dst = was.src;
	s->sport = was.dport;
	s->dport = was.sport;
}

static void throw_shared(struct dice *d, struct sent *s)
{
	s->protocol = 6;
	s->sport = (uint16_t)(40000 + dice_below(d, CLIENTS));
	s->dport = 443;
	s->is_undecided = true;
	s->class_ = CLASS_OTHER;
	s->n_payload = 0;
	s->tcp_flags = dice_one_in(d, 2) ? SYN : ACK;
	if (dice_one_in(d, 2))
		return;
	s->tcp_flags = ACK;
	s->is_reset = dice_one_in(d, 2);
	s->is_hello = !s->is_reset;
	s->n_payload = s->is_reset ? sizeof(ovpn_reset) : sizeof(tls_hello);
}

static void throw_outer(struct dice *d, struct sent *s)
{
	static const struct {
		uint8_t protocol, class_;
		uint16_t dport;
	} kinds[] = {{50, CLASS_ESP, 0},
		     {50, CLASS_ESP, 0},
		     {17, CLASS_IKE, 500},
		     {17, CLASS_OVPN, 1194},
		     {17, CLASS_OTHER, 53}};
	unsigned kind = dice_below(d, 5);

	s->src = GATEWAY;
	s->dst = GATEWAY + 1 + dice_below(d, 3);
	s->protocol = kinds[kind].protocol;
	s->class_ = kinds[kind].class_;
	s->dport = kinds[kind].dport;
	s->sport = s->protocol == 17 ? (uint16_t)(50000 + dice_below(d, 10)) : 0;
	if (s->port == PORT_SHARED && dice_one_in(d, 3))
		throw_shared(d, s);
}

static void throw_inner(struct dice *d, struct sent *s)
{
	static const uint16_t ports[] = {53, 80, 443};

	s->src = 0x0a000000 + ((1 + dice_below(d, 3)) << 16) + dice_below(d, 4);
	s->dst = 0x0a000000 + ((1 + dice_below(d, 3)) << 16) + dice_below(d, 4);
	s->protocol = dice_one_in(d, 2) ? 6 : dice_one_in(d, 4) ? 1 : 17;
	s->class_ = CLASS_INNER;
	if (s->protocol == 1)
		return;
	s->sport = (uint16_t)(50000 + dice_below(d, 10));
	s->dport = ports[dice_below(d, 3)];
	s->tcp_flags = s->protocol == 6 ? (uint8_t)(dice_one_in(d, 2) ? SYN : ACK) : 0;
}

void known_packet_throw(struct dice *d, struct sent *s, unsigned port)
{
	*s = (struct sent){.port = (uint8_t)port, .n_payload = (uint8_t)(8 + dice_below(d, 130))};
	if (port == PORT_INNER)
		throw_inner(d, s);
	else
		throw_outer(d, s);
	turn_half(d, s);
}

uint32_t known_frame(uint32_t index, const struct sent *s, uint8_t frame[FRAME_BYTES_MAX])
{
	uint8_t payload[FRAME_BYTES_MAX];
	struct simple_frame f = {.src = s->src,
				 .dst = s->dst,
				 .protocol = s->protocol,
				 .sport = s->sport,
				 .dport = s->dport,
				 .tcp_flags = s->tcp_flags,
				 .id = (uint16_t)index,
				 .n_payload = s->n_payload,
				 .payload = payload};

	memset(payload, (int)(1 + index % 255), sizeof(payload)); // ESP's SPI is not 0
	frame_be32(payload + 4, index);
	if (s->is_reset)
		f.payload = ovpn_reset;
	if (s->is_hello)
		f.payload = tls_hello;
	return frame_write(&f, frame);
}

bool known_is_wanted(const struct config *config, const struct known_capture *c,
		     const struct sent *s)
{
	static const unsigned traces[CLASS_COUNT] = {
		[CLASS_ESP] = TRACE_ESP, [CLASS_IKE] = TRACE_IKE, [CLASS_OVPN] = TRACE_OVPN};
	const struct set_source source = {.config = config, .captures = &c->entry, .n_captures = 1};
	uint8_t src[4], dst[4];
	struct match_key key = {.src = src,
				.dst = dst,
				.family = 4,
				.protocol = s->protocol,
				.tcp_flags = s->tcp_flags,
				.has_ports = s->protocol == 6 || s->protocol == 17,
				.has_tcp_flags = s->protocol == 6,
				.sport = s->sport,
				.dport = s->dport};

	frame_be32(src, s->src);
	frame_be32(dst, s->dst);
	if (s->class_ == CLASS_INNER)
		return slow_fold(slow_inner(&source, &key)) != 0;
	if (s->class_ == CLASS_OTHER && !s->is_undecided)
		return false;
	return slow_outer(&source, s->is_undecided ? TRACE_OVPN : traces[s->class_], &key) != 0;
}
