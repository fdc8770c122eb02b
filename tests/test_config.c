/* test_config.c - every key of the configuration: what it takes, what it refuses, where it goes.
 *
 * The wrong types are not listed by hand: a document that uses every key is walked, and each value
 * in it is replaced by one of each other type in turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka wants the above first
#include <cmocka.h>

#include <cjson/cJSON.h>
#include <errno.h>

#include "control/config.h"
#include "control/config_read.h"

/* Every key, none at its default. */
static const char full[] =
	"{\"gateway\":{\"name\":\"edge-1\",\"vpn_type\":\"PolicyBased\","
	"\"public_addresses\":[\"192.0.2.1\",\"2001:db8::1\"],"
	"\"openvpn_endpoints\":[{\"address\":\"192.0.2.1\",\"protocol\":\"tcp\",\"port\":8443,"
	"\"shared\":true},{\"protocol\":\"udp\",\"port\":1195,\"shared\":false}]},"
	"\"connections\":[{\"name\":\"site a\",\"type\":\"IPsec\",\"peer\":{\"addresses\":["
	"\"198.51.100.7\",\"203.0.113.0/24\"],\"names\":[\"vpn.example.com\"],\"udp_ports\":[4500,"
	"500]},\"remote_subnets\":[\"10.1.0.0/16\",\"2001:db8:1::/48\"],\"if_id\":4294967295,"
	"\"mark\":7,\"reqid\":8},{\"name\":\"users\",\"type\":\"OpenVPN\",\"peer\":\"any\"}],"
	"\"ports\":[{\"name\":\"wan\",\"source\":\"pcap:/captures/a.pcap\",\"role\":\"outer\","
	"\"queues\":2,\"pace\":\"fast\",\"loops\":0},{\"name\":\"lan\",\"source\":"
	"\"af_packet:eth1\",\"role\":\"inner\"}],"
	"\"dataplane\":{\"socket\":\"/run/g/dp\",\"workers\":2,\"cores\":[3,-1],"
	"\"ring_bytes\":1048576,\"hugepages\":true,\"memory_mb\":512,\"idle\":\"sleep\","
	"\"eal_args\":[\"--no-pci\",\"--vdev=net_ring0\"]},"
	"\"control\":{\"socket\":\"/run/g/api\",\"state_dir\":\"/srv/g\",\"user\":\"u\",\"group\":"
	"\"g\"},"
	"\"esp\":{\"sa_file\":\"/etc/g/esp_sa\",\"kernel\":true,\"kernel_socket\":\"/run/g/xfrm\","
	"\"verify_icv\":true},"
	"\"captures\":{\"max_running\":4,\"max_filters_per_capture\":3,\"retention_days\":30,\"sync_ms\":0,"
	"\"timestamps\":\"nano\"},"
	"\"upload\":{\"allowed_hosts\":[\".example.net\",\"127.0.0.1\"],\"allow_http_loopback\":"
	"true,\"ca_file\":\"/etc/ca.pem\",\"proxy\":\"http://"
	"u:p@proxy:3128\",\"block_bytes\":65536,"
	"\"prefix\":\"captures/site-1\",\"instance\":\"1\"}}";

/* Parse exactly the bytes given: the sanitizer sees any read beyond them. */
static int parse(const char *text, size_t len, struct config *out, struct faults *faults)
{
	char *copy = malloc(len > 0 ? len : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, text, len);
	rc = config_parse(copy, len, out, faults);
	free(copy);
	return rc;
}

static bool has_fault_at(const struct faults *faults, const char *pointer)
{
	for (unsigned i = 0; i < faults->n; i++)
		if (strcmp(faults->list[i].pointer, pointer) == 0)
			return true;
	return false;
}

/* ---- What is read ---- */

static void an_empty_object_is_all_defaults(void **state)
{
	struct faults faults = {0};
	struct config c;
	const struct endpoint *e = c.gateway.endpoints;

	(void)state;
	assert_int_equal(parse("{}", 2, &c, &faults), 0);
	assert_string_equal(c.gateway.name, "gw");
	assert_int_equal(c.gateway.vpn_type, VPN_ROUTE_BASED);
	assert_int_equal(c.gateway.n_public_addresses, 0);
	assert_int_equal(c.gateway.n_endpoints, 3);
	assert_true(e[0].protocol == 17 && e[0].port == 1194 && !e[0].shared);
	assert_true(e[1].protocol == 6 && e[1].port == 1194 && !e[1].shared);
	assert_true(e[2].protocol == 6 && e[2].port == 443 && e[2].shared);
	assert_int_equal(e[0].address.family, 0);
	assert_int_equal(c.n_connections, 0);
	assert_int_equal(c.n_ports, 0);
	assert_string_equal(c.dataplane.socket, "/run/gatecap/dp.sock");
	assert_int_equal(c.dataplane.n_workers, 1);
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		assert_int_equal(c.dataplane.cores[i], -1);
	assert_int_equal(c.dataplane.ring_bytes, 64 << 20);
	assert_false(c.dataplane.hugepages);
	assert_int_equal(c.dataplane.memory_mb, 256);
	assert_int_equal(c.dataplane.idle, IDLE_POLL);
	assert_int_equal(c.dataplane.n_eal_args, 0);
	assert_string_equal(c.control.socket, "/run/gatecap/gatecap.sock");
	assert_string_equal(c.control.state_dir, "/var/lib/gatecap");
	assert_string_equal(c.control.user, "gatecap");
	assert_string_equal(c.control.group, "gatecap");
	assert_null(c.esp.sa_file);
	assert_false(c.esp.kernel);
	assert_string_equal(c.esp.kernel_socket, "/run/gatecap/xfrm.sock");
	assert_false(c.esp.verify_icv);
	assert_int_equal(c.captures.running_max, 5);
	assert_int_equal(c.captures.filters_per_capture_max, 1);
	assert_int_equal(c.captures.retention_days, 7);
	assert_int_equal(c.captures.sync_ms, 1000);
	assert_int_equal(c.captures.timestamps, TIMESTAMPS_MICRO);
	assert_int_equal(c.upload.n_allowed_hosts, 4);
	assert_string_equal(c.upload.allowed_hosts[0], ".blob.core.windows.net");
	assert_string_equal(c.upload.allowed_hosts[1], ".blob.core.usgovcloudapi.net");
	assert_string_equal(c.upload.allowed_hosts[2], ".blob.core.chinacloudapi.cn");
	assert_string_equal(c.upload.allowed_hosts[3], ".blob.storage.azure.net");
	assert_false(c.upload.allow_http_loopback);
	assert_null(c.upload.ca_file);
	assert_null(c.upload.proxy);
	assert_int_equal(c.upload.block_bytes, 8 << 20);
	assert_string_equal(c.upload.prefix, "");
	assert_string_equal(c.upload.instance, "0");
	config_fini(&c);
}

static void the_gateway_and_its_connections_are_read(const struct config *c)
{
	const struct connection *site = &c->connections[0];

	assert_string_equal(c->gateway.name, "edge-1");
	assert_int_equal(c->gateway.vpn_type, VPN_POLICY_BASED);
	assert_int_equal(c->gateway.n_public_addresses, 2);
	assert_int_equal(c->gateway.public_addresses[1].family, 6);
	assert_int_equal(c->gateway.n_endpoints, 2);
	assert_int_equal(c->gateway.endpoints[0].address.family, 4);
	assert_int_equal(c->gateway.endpoints[0].protocol, 6);
	assert_int_equal(c->gateway.endpoints[0].port, 8443);
	assert_true(c->gateway.endpoints[0].shared);
	assert_int_equal(c->gateway.endpoints[1].address.family, 0);
	assert_int_equal(c->gateway.endpoints[1].protocol, 17);
	assert_int_equal(c->gateway.endpoints[1].port, 1195);
	assert_int_equal(c->n_connections, 2);
	assert_string_equal(site->name, "site a");
	assert_int_equal(site->type, CONNECTION_IPSEC);
	assert_false(site->peer.any);
	assert_int_equal(site->peer.n_addresses, 2);
	assert_int_equal(site->peer.addresses[1].prefix_len, 24);
	assert_int_equal(site->peer.n_names, 1);
	assert_string_equal(site->peer.names[0], "vpn.example.com");
	assert_int_equal(site->peer.n_udp_ports, 2);
	assert_int_equal(site->peer.udp_ports[0], 4500);
	assert_int_equal(site->peer.udp_ports[1], 500);
	assert_int_equal(site->n_remote_subnets, 2);
	assert_int_equal(site->remote_subnets[0].prefix_len, 16);
	assert_int_equal(site->if_id, UINT32_MAX);
	assert_int_equal(site->mark, 7);
	assert_int_equal(site->reqid, 8);
	assert_int_equal(c->connections[1].type, CONNECTION_OPENVPN);
	assert_true(c->connections[1].peer.any);
}

static void the_ports_and_the_dataplane_are_read(const struct config *c)
{
	assert_int_equal(c->n_ports, 2);
	assert_string_equal(c->ports[0].name, "wan");
	assert_string_equal(c->ports[0].source, "pcap:/captures/a.pcap");
	assert_int_equal(c->ports[0].role, ROLE_OUTER);
	assert_int_equal(c->ports[0].n_queues, 2);
	assert_int_equal(c->ports[0].pace, PACE_FAST);
	assert_int_equal(c->ports[0].loops, 0);
	assert_int_equal(c->ports[1].role, ROLE_INNER);
	assert_int_equal(c->ports[1].n_queues, 1);
	assert_int_equal(c->ports[1].pace, PACE_PACED);
	assert_int_equal(c->ports[1].loops, 1);
	assert_string_equal(c->dataplane.socket, "/run/g/dp");
	assert_int_equal(c->dataplane.n_workers, 2);
	assert_int_equal(c->dataplane.cores[0], 3);
	assert_int_equal(c->dataplane.cores[1], -1);
	assert_int_equal(c->dataplane.ring_bytes, 1 << 20);
	assert_true(c->dataplane.hugepages);
	assert_int_equal(c->dataplane.memory_mb, 512);
	assert_int_equal(c->dataplane.idle, IDLE_SLEEP);
	assert_int_equal(c->dataplane.n_eal_args, 2);
	assert_string_equal(c->dataplane.eal_args[1], "--vdev=net_ring0");
}

static void every_key_reaches_its_field(void **state)
{
	struct faults faults = {0};
	struct config c;

	(void)state;
	if (parse(full, strlen(full), &c, &faults) != 0)
		fail_msg("%s", faults_text(&faults));
	the_gateway_and_its_connections_are_read(&c);
	the_ports_and_the_dataplane_are_read(&c);
	assert_string_equal(c.control.socket, "/run/g/api");
	assert_string_equal(c.control.state_dir, "/srv/g");
	assert_string_equal(c.control.user, "u");
	assert_string_equal(c.control.group, "g");
	assert_string_equal(c.esp.sa_file, "/etc/g/esp_sa");
	assert_true(c.esp.kernel);
	assert_string_equal(c.esp.kernel_socket, "/run/g/xfrm");
	assert_true(c.esp.verify_icv);
	assert_int_equal(c.captures.running_max, 4);
	assert_int_equal(c.captures.filters_per_capture_max, 3);
	assert_int_equal(c.captures.retention_days, 30);
	assert_int_equal(c.captures.sync_ms, 0);
	assert_int_equal(c.captures.timestamps, TIMESTAMPS_NANO);
	assert_int_equal(c.upload.n_allowed_hosts, 2);
	assert_string_equal(c.upload.allowed_hosts[1], "127.0.0.1");
	assert_true(c.upload.allow_http_loopback);
	assert_string_equal(c.upload.ca_file, "/etc/ca.pem");
	assert_string_equal(c.upload.proxy, "http://u:p@proxy:3128");
	assert_int_equal(c.upload.block_bytes, 65536);
	assert_string_equal(c.upload.prefix, "captures/site-1");
	assert_string_equal(c.upload.instance, "1");
	config_fini(&c);
}

/* ---- Wrong types, everywhere ---- */

static unsigned n_replaced;

/* Replace `value`, at `pointer` in root, by one of each other type. */
static void refuse_other_types(const struct cJSON *root, struct cJSON *value, const char *pointer)
{
	static const char *const others[] = {"null", "true", "1.5", "\"wrong\"", "[]", "{}"};

	for (unsigned i = 0; i < 6; i++) {
		struct cJSON *other = cJSON_Parse(others[i]), kept = *value;
		struct faults faults = {0};
		struct config c;
		char *text;

		if ((other->type & 0xff) == (value->type & 0xff) ||
		    (cJSON_IsBool(other) && cJSON_IsBool(value))) {
			cJSON_Delete(other);
			continue;
		}
		value->type = other->type; // in place; links and key stay
		value->valuestring = other->valuestring;
		value->valuedouble = other->valuedouble;
		value->child = other->child;
		text = cJSON_PrintUnformatted(root);
		assert_non_null(text);
		if (parse(text, strlen(text), &c, &faults) == 0)
			fail_msg("%s was accepted as %s", others[i], pointer);
		if (!has_fault_at(&faults, pointer))
			fail_msg("%s at %s: only said %s", others[i], pointer,
				 faults_text(&faults));
		*value = kept;
		cJSON_free(text);
		faults_fini(&faults);
		cJSON_Delete(other);
		n_replaced++;
	}
}

static void walk(const struct cJSON *root, struct cJSON *value, const char *pointer)
{
	struct cJSON *member;
	unsigned i = 0;

	refuse_other_types(root, value, pointer);
	cJSON_ArrayForEach(member, value)
	{
		char *at;
		int len = cJSON_IsObject(value) ? asprintf(&at, "%s/%s", pointer, member->string)
						: asprintf(&at, "%s/%u", pointer, i++);

		assert_true(len > 0);
		walk(root, member, at);
		free(at);
	}
}

static void a_wrong_type_in_any_field_is_refused_by_its_name(void **state)
{
	struct cJSON *root = cJSON_Parse(full);

	(void)state;
	n_replaced = 0;
	walk(root, root, "");
	print_message("%u documents\n", n_replaced);
	assert_true(n_replaced > 5 * 60);
	cJSON_Delete(root);
}

/* The walk is only as good as its document: it must hold all keys of the sections' tables. */
static void the_walked_document_holds_every_key(void **state)
{
	struct cJSON *root = cJSON_Parse(full);
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < config_document.n_keys; i++) {
		const struct config_key *section = &config_document.keys[i];
		const struct cJSON *value = cJSON_GetObjectItemCaseSensitive(root, section->name);

		assert_non_null(value);
		for (unsigned j = 0; j < section->n_keys; j++, n++)
			assert_non_null(
				cJSON_GetObjectItemCaseSensitive(value, section->keys[j].name));
	}
	assert_int_equal(config_document.n_keys, 8);
	assert_int_equal(n, 4 + 8 + 4 + 4 + 5 + 7);
	cJSON_Delete(root);
}

/* ---- Values that are refused ---- */

struct row {
	unsigned number;
	const char *text, *reply; // all faults; "" = accepted
};

#define PORT(more)	 "{\"ports\":[{\"name\":\"p\",\"role\":\"outer\"," more "}]}"
#define CONNECTION(more) "{\"connections\":[{\"name\":\"c\",\"type\":\"IPsec\"," more "}]}"
#define SOURCE(text)	 PORT("\"source\":\"" text "\"")
#define NAME(text)	 "{\"gateway\":{\"name\":\"" text "\"}}"
#define PREFIX(text)	 "{\"upload\":{\"prefix\":\"" text "\"}}"
#define PREFIX_HELP                                                                              \
	"must be \"\" or a relative path such as captures/site-1: at most 200 bytes, no empty, " \
	"\".\" or \"..\" part, no backslash\n"
#define HOST_HELP                                                                    \
	"must be a host such as account.blob.core.windows.net, or a suffix such as " \
	".blob.core.windows.net; no scheme, no path, no wildcard\n"
#define INTERFACE_HELP                                                                          \
	"must name a network interface behind the colon: 1 to 15 characters without '/', ':', " \
	"',' or spaces, as in af_packet:eth0\n"
#define FILE_HELP "must be the absolute path of a file, such as /etc/gatecap/esp_sa\n"
#define TEN	  "0123456789"
#define EIGHTY	  TEN TEN TEN TEN TEN TEN TEN TEN

static const struct row rows[] = {
	/* Documents. */
	{1, "", "line 1, column 1: the document is empty; the smallest one is {}\n"},
	{2, "[]", "an array: must be an object\n"},
	{3, "{\"gateway\":{},\"gateway\":{}}",
	 "/gateway: line 1, column 15: this key is in its object twice; keep one of them\n"},
	{4, "{} // end", "line 1, column 4: the document ends before this; remove what follows\n"},
	/* Unknown keys. */
	{10, "{\"gatway\":{}}", "/gatway: unknown key; the nearest known one is \"gateway\"\n"},
	{11, "{\"upload\":{\"Proxy\":\"x\",\"blockbytes\":1}}",
	 "/upload/Proxy: unknown key; the nearest known one is \"proxy\"\n"
	 "/upload/blockbytes: unknown key; the nearest known one is \"block_bytes\"\n"},
	{12, PORT("\"source\":\"0000:03:00.0\",\"queue\":1"),
	 "/ports/0/queue: unknown key; the nearest known one is \"queues\"\n"},
	/* Keys without a default. */
	{20, "{\"ports\":[{}],\"connections\":[{}]}",
	 "/ports/0/name: missing; it has no default: counters are shown under this name\n"
	 "/ports/0/source: missing; it has no default: it is pcap:FILE, af_packet:INTERFACE, "
	 "af_xdp:INTERFACE or an EAL device\n"
	 "/ports/0/role: missing; it has no default: it is \"outer\" (encrypted side) or "
	 "\"inner\" (plaintext side)\n"
	 "/connections/0/name: missing; it has no default: captures are started by this name\n"
	 "/connections/0/type: missing; it has no default: it is \"IPsec\" or \"OpenVPN\"\n"
	 "/connections/0/peer: missing; it has no default: it is \"any\" or an object with "
	 "\"addresses\" or \"names\"\n"},
	/* Names. */
	{30, NAME("\xc3\xa9 ok-1_(x)"), ""},
	{31, NAME(""), "/gateway/name: \"\": must not be empty\n"},
	{32, NAME("a/b"),
	 "/gateway/name: \"a/b\": must not hold a '/': names are parts of blob names and URLs\n"},
	{33, NAME(".."),
	 "/gateway/name: \"..\": must not be \".\" or \"..\": names are parts of paths\n"},
	{34, NAME("a\\nb"), "/gateway/name: \"a\\u000ab\": must not hold control characters\n"},
	{35, NAME("a\x7f"), "/gateway/name: \"a\\u007f\": must not hold control characters\n"},
	{36, NAME("a\xc2\x9b"), "/gateway/name: \"a\\u009b\": must not hold control characters\n"},
	{37, NAME(" a"), "/gateway/name: \" a\": must not start or end with a space\n"},
	{38, NAME(TEN TEN TEN TEN TEN TEN TEN "012345678"), ""},
	{39, NAME(EIGHTY),
	 "/gateway/name: \"" TEN TEN TEN TEN TEN TEN "0123...\": has 80 bytes; at most 79 are "
	 "accepted\n"},
	{40,
	 "{\"connections\":[{\"name\":\"b\",\"type\":\"IPsec\",\"peer\":\"any\"},"
	 "{\"name\":\"a\",\"type\":\"IPsec\",\"peer\":\"any\"},"
	 "{\"name\":\"b\",\"type\":\"OpenVPN\",\"peer\":\"any\"}]}",
	 "/connections/2/name: \"b\" is the name of item 0 already; names must differ\n"},
	{41,
	 "{\"ports\":[{\"name\":\"a\",\"source\":\"x\",\"role\":\"inner\"},"
	 "{\"name\":\"a\",\"source\":\"y\",\"role\":\"inner\"}]}",
	 "/ports/1/name: \"a\" is the name of item 0 already; names must differ\n"},
	/* Gateway. */
	{50, "{\"gateway\":{\"vpn_type\":\"routebased\"}}",
	 "/gateway/vpn_type: \"routebased\": must be \"RouteBased\" or \"PolicyBased\"\n"},
	{51, "{\"gateway\":{\"public_addresses\":[\"192.0.2.0/24\",\"192.0.2.1/32\",\"x\"]}}",
	 "/gateway/public_addresses/0: \"192.0.2.0/24\": must be one address, not a subnet\n"
	 "/gateway/public_addresses/2: \"x\": must be an IPv4 or IPv6 address, or one with a "
	 "prefix "
	 "length, such as 10.1.0.0/24 or 2001:db8::/32\n"},
	{52, "{\"gateway\":{\"openvpn_endpoints\":[]}}", ""},
	{53, "{\"gateway\":{\"openvpn_endpoints\":[{}]}}", ""},
	{54, "{\"gateway\":{\"openvpn_endpoints\":[{\"shared\":true}]}}",
	 "/gateway/openvpn_endpoints/0/shared: only a tcp endpoint can be shared with HTTPS; set "
	 "\"protocol\": \"tcp\" or leave \"shared\" out\n"},
	{55,
	 "{\"gateway\":{\"openvpn_endpoints\":[{\"port\":0},{\"port\":65536},{\"protocol\":"
	 "\"sctp\"}]}}",
	 "/gateway/openvpn_endpoints/0/port: 0: must be an integer, 1 to 65535\n"
	 "/gateway/openvpn_endpoints/1/port: 65536: must be an integer, 1 to 65535\n"
	 "/gateway/openvpn_endpoints/2/protocol: \"sctp\": must be \"udp\" or \"tcp\"\n"},
	{56,
	 "{\"gateway\":{\"openvpn_endpoints\":[{\"protocol\":\"tcp\"},{\"protocol\":\"tcp\","
	 "\"shared\":true},{\"protocol\":\"tcp\",\"address\":\"::1\"}]}}",
	 "/gateway/openvpn_endpoints/1: has the address, protocol and port of an earlier "
	 "endpoint\n"},
	{57,
	 "{\"gateway\":{\"openvpn_endpoints\":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},"
	 "{}]}}",
	 "/gateway/openvpn_endpoints: has 17 items; at most 16 are accepted\n"},
	/* Connections. */
	{60, CONNECTION("\"peer\":{}"),
	 "/connections/0/peer: names nobody; give \"addresses\" or \"names\", or write \"any\" "
	 "instead of the object\n"},
	{61, CONNECTION("\"peer\":{\"udp_ports\":[4500]}"),
	 "/connections/0/peer: names nobody; give \"addresses\" or \"names\", or write \"any\" "
	 "instead of the object\n"},
	{62, CONNECTION("\"peer\":\"Any\""),
	 "/connections/0/peer: \"Any\": must be \"any\" or an object with \"addresses\" or "
	 "\"names\"\n"},
	{63, CONNECTION("\"peer\":{\"addresses\":[\"10.0.0.1/24\"]}"),
	 "/connections/0/peer/addresses/0: \"10.0.0.1/24\": host bits are set; write "
	 "10.0.0.0/24\n"},
	{64, CONNECTION("\"peer\":{\"names\":[\"\",\"a b\",\"a..b\",\"-a\",\"x.example.\"]}"),
	 "/connections/0/peer/names/0: \"\": must be a DNS name such as vpn.example.com; addresses "
	 "go into \"addresses\"\n"
	 "/connections/0/peer/names/1: \"a b\": must be a DNS name such as vpn.example.com; "
	 "addresses go into \"addresses\"\n"
	 "/connections/0/peer/names/2: \"a..b\": must be a DNS name such as vpn.example.com; "
	 "addresses go into \"addresses\"\n"
	 "/connections/0/peer/names/3: \"-a\": must be a DNS name such as vpn.example.com; "
	 "addresses go into \"addresses\"\n"},
	{65, CONNECTION("\"peer\":{\"names\":[\"a\"],\"udp_ports\":[0,65536,1.5]}"),
	 "/connections/0/peer/udp_ports/0: 0: must be an integer, 1 to 65535\n"
	 "/connections/0/peer/udp_ports/1: 65536: must be an integer, 1 to 65535\n"
	 "/connections/0/peer/udp_ports/2: 1.5: must be an integer, 1 to 65535\n"},
	{66, CONNECTION("\"peer\":\"any\",\"if_id\":-1,\"mark\":4294967296,\"reqid\":0.5"),
	 "/connections/0/if_id: -1: must be an integer, 0 to 4294967295\n"
	 "/connections/0/mark: 4294967296: must be an integer, 0 to 4294967295\n"
	 "/connections/0/reqid: 0.5: must be an integer, 0 to 4294967295\n"},
	{67, CONNECTION("\"peer\":\"any\",\"type2\":1,\"remote_subnets\":[\"10.1.0.1/16\"]"),
	 "/connections/0/type2: unknown key; the nearest known one is \"type\"\n"
	 "/connections/0/remote_subnets/0: \"10.1.0.1/16\": host bits are set; write "
	 "10.1.0.0/16\n"},
	/* Ports. */
	{70, SOURCE("pcap:a b.pcap"), ""},
	{71, SOURCE("af_packet:eth0"), ""},
	{72, SOURCE("af_xdp:enp3s0f0.100"), ""},
	{73, SOURCE("0000:03:00.0"), ""},
	{74, SOURCE("net_tap0,iface=tap0"), ""},
	{75, SOURCE(""),
	 "/ports/0/source: \"\": must not be empty; it is pcap:FILE, af_packet:INTERFACE, "
	 "af_xdp:INTERFACE or an EAL device such as 0000:03:00.0\n"},
	{76, SOURCE("pcap:"), "/ports/0/source: \"pcap:\": must name a file behind the colon\n"},
	{77, SOURCE("af_packet:"), "/ports/0/source: \"af_packet:\": " INTERFACE_HELP},
	{78, SOURCE("af_xdp:eth0,queues=4"),
	 "/ports/0/source: \"af_xdp:eth0,queues=4\": " INTERFACE_HELP},
	{79, SOURCE("af_xdp:0123456789abcdef"),
	 "/ports/0/source: \"af_xdp:0123456789abcdef\": " INTERFACE_HELP},
	{80, SOURCE("net_tap0\\n"),
	 "/ports/0/source: \"net_tap0\\u000a\": must not hold control characters\n"},
	{81, PORT("\"source\":\"af_packet:eth0\",\"pace\":\"fast\",\"loops\":2"),
	 "/ports/0/pace: is for pcap: sources only; leave it out of this port\n"
	 "/ports/0/loops: is for pcap: sources only; leave it out of this port\n"},
	{82, PORT("\"source\":\"pcap:f\",\"pace\":\"slow\",\"loops\":-1"),
	 "/ports/0/pace: \"slow\": must be \"paced\" or \"fast\"\n"
	 "/ports/0/loops: -1: must be an integer, 0 to 4294967295\n"},
	{83, PORT("\"source\":\"pcap:f\",\"queues\":2"),
	 "/ports/0/queues: is 2 and \"workers\" is 1; a queue needs a worker of its own\n"},
	{84, PORT("\"source\":\"pcap:f\",\"queues\":0"),
	 "/ports/0/queues: 0: must be an integer, 1 to 64\n"},
	{85, "{\"ports\":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]}",
	 "/ports: has 17 items; at most 16 are accepted\n"},
	/* Dataplane. */
	{90, "{\"dataplane\":{\"workers\":2,\"cores\":[1]}}",
	 "/dataplane/cores: has 1 items and \"workers\" is 2; give one core a worker (-1: not "
	 "pinned)\n"},
	{91, "{\"dataplane\":{\"cores\":[1,2]}}",
	 "/dataplane/cores: has 2 items and \"workers\" is 1; give one core a worker (-1: not "
	 "pinned)\n"},
	{92, "{\"dataplane\":{\"workers\":2,\"cores\":[]}}", ""},
	{93, "{\"dataplane\":{\"workers\":4,\"cores\":[1,-1,1,-1]}}",
	 "/dataplane/cores/2: 1: this core has a worker already\n"},
	{94, "{\"dataplane\":{\"workers\":2,\"cores\":[-2,1024]}}",
	 "/dataplane/cores/0: -2: must be an integer, -1 to 1023\n"
	 "/dataplane/cores/1: 1024: must be an integer, -1 to 1023\n"},
	{95,
	 "{\"dataplane\":{\"workers\":65,\"cores\":[1,2]},\"ports\":[{\"name\":\"p\",\"source\":"
	 "\"x\",\"role\":\"outer\",\"queues\":9}]}",
	 "/dataplane/workers: 65: must be an integer, 1 to 64\n"}, // and no guess about the rest
	{96, "{\"dataplane\":{\"workers\":0}}",
	 "/dataplane/workers: 0: must be an integer, 1 to 64\n"},
	{97, "{\"dataplane\":{\"ring_bytes\":4294967296}}", ""},
	{98, "{\"dataplane\":{\"ring_bytes\":1048575}}",
	 "/dataplane/ring_bytes: 1048575: must be an integer, 1048576 to 4294967296\n"},
	{99, "{\"dataplane\":{\"ring_bytes\":8589934592}}",
	 "/dataplane/ring_bytes: 8589934592: must be an integer, 1048576 to 4294967296\n"},
	{100, "{\"dataplane\":{\"ring_bytes\":3145728}}",
	 "/dataplane/ring_bytes: 3145728: must be a power of two, such as 67108864 (64 MiB)\n"},
	{101,
	 "{\"dataplane\":{\"memory_mb\":63,\"idle\":\"Poll\",\"eal_args\":[\"\",\"a\\u0007\"]}}",
	 "/dataplane/memory_mb: 63: must be an integer, 64 to 1048576\n"
	 "/dataplane/idle: \"Poll\": must be \"poll\" or \"sleep\"\n"
	 "/dataplane/eal_args/0: \"\": must not be empty\n"
	 "/dataplane/eal_args/1: \"a\\u0007\": must not hold control characters\n"},
	/* Control, captures. */
	{110, "{\"control\":{\"socket\":\"\",\"user\":\"\",\"group\":\"a/b\",\"state_dir\":\"\"}}",
	 "/control/socket: \"\": must not be empty\n/control/user: \"\": must not be empty\n"
	 "/control/group: \"a/b\": must not hold a '/': names are parts of blob names and URLs\n"
	 "/control/state_dir: \"\": must not be empty\n"},
	{111, "{\"control\":{\"socket\":\"/" EIGHTY TEN "0123456789\"}}",
	 "/control/socket: \"/" TEN TEN TEN TEN TEN TEN "012...\": has 101 bytes; at most 99 are "
	 "accepted\n"},
	{112, "{\"control\":{\"socket\":\"/run/gatecap/dp.sock\"}}",
	 "/control/socket: \"/run/gatecap/dp.sock\" is the dataplane's socket too; the two must "
	 "differ\n"},
	{113,
	 "{\"captures\":{\"max_running\":0,\"max_filters_per_capture\":0,\"retention_days\":0,"
	 "\"timestamps\":\"ns\"}}",
	 "/captures/max_running: 0: must be an integer, 1 to 5\n"
	 "/captures/max_filters_per_capture: 0: must be an integer, 1 to 3\n"
	 "/captures/retention_days: 0: must be an integer, 1 to 3650\n"
	 "/captures/timestamps: \"ns\": must be \"micro\" or \"nano\"\n"},
	{114,
	 "{\"captures\":{\"max_running\":6,\"max_filters_per_capture\":4,\"retention_days\":3651,"
	 "\"sync_ms\":60001}}",
	 "/captures/max_running: 6: must be an integer, 1 to 5\n"
	 "/captures/max_filters_per_capture: 4: must be an integer, 1 to 3\n"
	 "/captures/retention_days: 3651: must be an integer, 1 to 3650\n"
	 "/captures/sync_ms: 60001: must be an integer, 0 to 60000\n"},
	/* ESP. */
	{115, "{\"esp\":{\"sa_file\":\"/a b\"}}", ""},
	{116, "{\"esp\":{\"sa_file\":\"\"}}", "/esp/sa_file: \"\": " FILE_HELP},
	{117, "{\"esp\":{\"sa_file\":\"esp_sa\"}}", "/esp/sa_file: \"esp_sa\": " FILE_HELP},
	{118, "{\"esp\":{\"sa_file\":\"/etc/\"}}", "/esp/sa_file: \"/etc/\": " FILE_HELP},
	{119, "{\"esp\":{\"kernel_socket\":\"/run/gatecap/gatecap.sock\",\"sa_files\":[]}}",
	 "/esp/sa_files: unknown key; the nearest known one is \"sa_file\"\n"
	 "/esp/kernel_socket: \"/run/gatecap/gatecap.sock\" is the socket of dataplane or control, "
	 "too; the three must differ\n"},
	/* Upload. */
	{120, "{\"upload\":{\"allowed_hosts\":[\"a.b\",\".c\",\"[::1]\",\"127.0.0.1\"]}}", ""},
	{121, "{\"upload\":{\"allowed_hosts\":[\"\",\".\",\"*.b\",\"https://a\",\"a/b\",\"..a\"]}}",
	 "/upload/allowed_hosts/0: \"\": " HOST_HELP "/upload/allowed_hosts/1: \".\": " HOST_HELP
	 "/upload/allowed_hosts/2: \"*.b\": " HOST_HELP
	 "/upload/allowed_hosts/3: \"https://a\": " HOST_HELP
	 "/upload/allowed_hosts/4: \"a/b\": " HOST_HELP
	 "/upload/allowed_hosts/5: \"..a\": " HOST_HELP},
	{122, "{\"upload\":{\"block_bytes\":65535}}",
	 "/upload/block_bytes: 65535: must be an integer, 65536 to 104857600\n"},
	{123, "{\"upload\":{\"block_bytes\":104857601}}",
	 "/upload/block_bytes: 104857601: must be an integer, 65536 to 104857600\n"},
	{124, "{\"upload\":{\"proxy\":\"user:hunter2@proxy\"}}", // the value is a secret
	 "/upload/proxy: must be a URL such as http://proxy.example.com:3128 (http, https, socks5 "
	 "or socks5h); the value is not shown, since it may hold a password\n"},
	{125, PREFIX(""), ""},
	{126, PREFIX("a/b.c"), ""},
	{127, PREFIX("/a"), "/upload/prefix: \"/a\": " PREFIX_HELP},
	{128, PREFIX("a/"), "/upload/prefix: \"a/\": " PREFIX_HELP},
	{129, PREFIX("a/../b"), "/upload/prefix: \"a/../b\": " PREFIX_HELP},
	{130, PREFIX("a\\\\b"), "/upload/prefix: \"a\\\\b\": " PREFIX_HELP},
	{131, "{\"upload\":{\"ca_file\":\"\",\"instance\":\"\"}}",
	 "/upload/ca_file: \"\": must not be empty\n/upload/instance: \"\": must not be empty\n"},
};

static void each_value_out_of_range_is_refused_and_all_at_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct faults faults = {0};
		struct config c, untouched;
		char *reply;
		int rc;

		memset(&c, 0x5a, sizeof(c));
		untouched = c;
		rc = parse(rows[i].text, strlen(rows[i].text), &c, &faults);
		reply = faults_text(&faults);
		if (strcmp(reply, rows[i].reply) != 0)
			fail_msg("row %u: said \"%s\"", rows[i].number, reply);
		assert_int_equal(rc, reply[0] == '\0' ? 0 : -EINVAL);
		if (rc == 0)
			config_fini(&c);
		else
			assert_memory_equal(&c, &untouched, sizeof(c));
		free(reply);
		faults_fini(&faults);
	}
}

static void ten_thousand_connections_are_read_and_the_next_is_refused(void **state)
{
	enum { N = CONNECTIONS_MAX, ROW = 128 };
	char *text = malloc((N + 2) * ROW);
	size_t len;
	struct faults faults = {0};
	struct config c;

	(void)state;
	assert_non_null(text);
	len = (size_t)sprintf(text, "{\"connections\":[");
	for (unsigned i = 0; i < N; i++)
		len += (size_t)snprintf(text + len, ROW,
					"%s{\"name\":\"c%u\",\"type\":\"IPsec\",\"peer\":{"
					"\"addresses\":[\"10.%u.%u.1\"]}}",
					i > 0 ? "," : "", i, i / 256, i % 256);
	(void)sprintf(text + len, "]}");
	assert_int_equal(parse(text, len + 2, &c, &faults), 0);
	assert_int_equal(c.n_connections, N);
	assert_string_equal(c.connections[N - 1].name, "c9999");
	config_fini(&c);
	(void)sprintf(text + len, ",1]}");
	assert_int_equal(parse(text, len + 4, &c, &faults), -EINVAL);
	assert_string_equal(faults.list[0].text, "has 10001 items; at most 10000 are accepted");
	faults_fini(&faults);
	free(text);
}

/* ---- Hostile documents ---- */

static void a_byte_deleted_or_changed_anywhere_gets_an_answer(void **state)
{
	char text[sizeof(full)];

	(void)state;
	for (size_t i = 0; i < 9 * (sizeof(full) - 1); i++) {
		size_t at = i / 9, len = sizeof(full) - 1;
		struct faults faults = {0};
		struct config c;

		memcpy(text, full, sizeof(full));
		if (i % 9 < 8)
			text[at] = (char)(full[at] ^ (1 << i % 9));
		else
			memmove(text + at, full + at + 1, len-- - at);
		if (parse(text, len, &c, &faults) == 0)
			config_fini(&c);
		else
			assert_true(faults.n > 0);
		faults_fini(&faults);
	}
}

static void a_document_cut_anywhere_is_refused(void **state)
{
	(void)state;
	for (size_t len = 0; len < sizeof(full) - 1; len++) {
		struct faults faults = {0};
		struct config c;

		assert_int_equal(parse(full, len, &c, &faults), -EINVAL);
		assert_int_equal(faults.n, 1);
		faults_fini(&faults);
	}
}

/* ---- Files ---- */

static void a_file_is_read_whole(void **state)
{
	char path[] = "/tmp/gatecap-config-XXXXXX";
	int fd = mkstemp(path);
	struct faults faults = {0};
	struct config c;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, full, sizeof(full) - 1), sizeof(full) - 1);
	assert_int_equal(close(fd), 0);
	assert_int_equal(config_load(path, &c, &faults), 0);
	assert_string_equal(c.gateway.name, "edge-1");
	config_fini(&c);
	assert_int_equal(unlink(path), 0);
}

static void a_file_that_cannot_be_read_is_named(void **state)
{
	struct faults faults = {0};
	struct config c;

	(void)state;
	assert_int_equal(config_load("/nowhere/gatecap.json", &c, &faults), -ENOENT);
	assert_int_equal(config_load("/", &c, &faults), -EISDIR);
	assert_int_equal(faults.n, 2);
	assert_string_equal(faults.list[0].text,
			    "the configuration file /nowhere/gatecap.json cannot be read: No such "
			    "file or directory; check the path and its permissions");
	faults_fini(&faults);
}

static void a_file_without_end_is_refused(void **state)
{
	struct faults faults = {0};
	struct config c;

	(void)state;
	assert_int_equal(config_load("/dev/zero", &c, &faults), -EINVAL);
	assert_non_null(strstr(faults.list[0].text, "at most 16777216 are accepted"));
	faults_fini(&faults);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_object_is_all_defaults),
		cmocka_unit_test(every_key_reaches_its_field),
		cmocka_unit_test(the_walked_document_holds_every_key),
		cmocka_unit_test(a_wrong_type_in_any_field_is_refused_by_its_name),
		cmocka_unit_test(each_value_out_of_range_is_refused_and_all_at_once),
		cmocka_unit_test(ten_thousand_connections_are_read_and_the_next_is_refused),
		cmocka_unit_test(a_byte_deleted_or_changed_anywhere_gets_an_answer),
		cmocka_unit_test(a_document_cut_anywhere_is_refused),
		cmocka_unit_test(a_file_is_read_whole),
		cmocka_unit_test(a_file_that_cannot_be_read_is_named),
		cmocka_unit_test(a_file_without_end_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
