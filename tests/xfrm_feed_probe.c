/* xfrm_feed_probe.c - gatecapd's end of xfrm.sock, and nothing else of gatecapd: shows what arrives.
 *
 *   xfrm_feed_probe SOCKET FOLDER
 *
 * FOLDER/list: a line an SA, keys included, since these are keys of a test.
 * FOLDER/journal: what came, a line each: "replace N", "put SPI", "remove SPI", "refused SPI".
 * FOLDER/status: "connected complete sas hidden unsupported foreign".  Both are replaced twenty times a
 * second, the list when it has changed.
 * An SA of SPI 0xdead is refused, as a registry without room would.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/xfrm_feed.h"
#include "filters/log.h"

enum { STATUS_EVERY_US = 50 * 1000, REFUSED_SPI = 0xdead };

static const char *folder;
static struct sa_list list;
static bool is_changed = true;
static FILE *journal;
static struct xfrm_feed *feed;

static FILE *begin_file(const char *name, char path[static 4096])
{
	FILE *f;

	(void)snprintf(path, 4096, "%s/%s.new", folder, name);
	f = fopen(path, "w");
	if (f == NULL) {
		perror(path);
		exit(1);
	}
	return f;
}

static void end_file(FILE *f, const char *name, const char *path)
{
	char final[4096];

	(void)snprintf(final, sizeof(final), "%s/%s", folder, name);
	(void)fclose(f);
	(void)rename(path, final);
}

static void print_key(FILE *f, const char *name, const uint8_t *key, unsigned n)
{
	(void)fprintf(f, " %s=", name);
	for (unsigned i = 0; i < n; i++)
		(void)fprintf(f, "%02x", key[i]);
}

static const char *text_of(uint8_t family, const uint8_t *value, char text[static 64])
{
	if (family == 0)
		return "any";
	return inet_ntop(family == 4 ? AF_INET : AF_INET6, value, text, 64);
}

static void print_item(FILE *f, const struct sa_item *item)
{
	const struct sa_record *r = &item->record;
	char text[64];

	(void)fprintf(f, "spi=%#x src=%s", r->spi, text_of(r->src.family, r->src.value, text));
	(void)fprintf(f, " dst=%s", text_of(r->dst.family, r->dst.value, text));
	(void)fprintf(f, " mode=%u cipher=%s auth=%s icv=%u", r->mode, esp_ciphers[r->cipher].name,
		      esp_auths[r->auth].name, r->icv_bytes);
	(void)fprintf(f, " esn=%d high=%u", (r->flags & SA_ESN) != 0, r->esn_high);
	(void)fprintf(f, " reqid=%u if_id=%u mark=%u in=%d", item->reqid, item->if_id, item->mark,
		      item->is_inbound);
	(void)fprintf(f, " remote=%s/%u", text_of(item->remote.family, item->remote.addr, text),
		      item->remote.prefix_len);
	print_key(f, "enc", r->enc_key, r->enc_key_bytes);
	print_key(f, "key", r->auth_key, r->auth_key_bytes);
	(void)fprintf(f, " text=%s\n", item->algorithm);
}

static void show(void)
{
	char path[4096];
	FILE *f = begin_file("list", path);

	for (uint32_t i = 0; i < list.n; i++)
		print_item(f, &list.items[i]);
	end_file(f, "list", path);
}

static int replace(void *ctx, struct sa_list *all, struct error *err)
{
	(void)ctx;
	(void)err;
	sa_list_fini(&list);
	list = *all;
	*all = (struct sa_list){0};
	(void)fprintf(journal, "replace %u\n", list.n);
	is_changed = true;
	return 0;
}

static uint32_t find(const struct sa_item *like)
{
	uint32_t i = 0;

	while (i < list.n && !sa_item_is_same_sa(&list.items[i], like))
		i++;
	return i;
}

static int put(void *ctx, const struct sa_item *item, struct error *err)
{
	uint32_t i = find(item);

	(void)ctx;
	if (item->record.spi == REFUSED_SPI) {
		error_set(err, "There is no room.");
		(void)fprintf(journal, "refused %#x\n", item->record.spi);
		return -E2BIG;
	}
	(void)fprintf(journal, "put %#x\n", item->record.spi);
	if (i < list.n)
		list.items[i] = *item;
	else
		(void)sa_list_add(&list, item);
	is_changed = true;
	return 0;
}

static int drop(void *ctx, const struct sa_item *like)
{
	uint32_t i = find(like);

	(void)ctx;
	(void)fprintf(journal, "remove %#x\n", like->record.spi);
	if (i == list.n)
		return -ENOENT;
	sa_list_remove(&list, i);
	is_changed = true;
	return 0;
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
	struct xfrm_feed_status s;
	char path[4096];
	FILE *f;

	(void)fd;
	(void)what;
	(void)ctx;
	if (is_changed)
		show();
	is_changed = false;
	xfrm_feed_status(feed, &s);
	f = begin_file("status", path);
	(void)fprintf(f, "%d %d %u %u %u %u\n", s.is_connected, s.is_complete, s.n_sas, s.n_hidden,
		      s.n_unsupported, s.n_foreign);
	end_file(f, "status", path);
}

int main(int argc, char **argv)
{
	const struct timeval every = {.tv_usec = STATUS_EVERY_US};
	const struct xfrm_sink sink = {NULL, replace, put, drop};
	struct event_base *base = event_base_new();
	struct error err = {0};
	struct event *tick;
	char path[4096];

	log_open("xfrm_feed_probe");
	if (argc != 3)
		return 2;
	folder = argv[2];
	(void)snprintf(path, sizeof(path), "%s/journal", folder);
	journal = fopen(path, "a");
	feed = xfrm_feed_open(base, argv[1], 0, &sink, &err);
	tick = event_new(base, -1, EV_PERSIST, on_tick, NULL);
	if (journal == NULL || feed == NULL || tick == NULL || event_add(tick, &every) != 0) {
		log_error("%s", err.text);
		return 1;
	}
	(void)setvbuf(journal, NULL, _IOLBF, 0);
	(void)event_base_dispatch(base);
	return 0;
}
