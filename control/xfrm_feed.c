/* xfrm_feed.c - a listener, one connection, one list in the making.
 *
 * A second gatecap-xfrm takes the place of the first: one that hangs must not keep its successor out.
 * A list in the making changes nothing until it is whole; one that breaks off is dropped.  What happens
 * meanwhile holds at once, and is remembered to be done to the list, too.  Done to each as it comes would
 * be a search through the list for every SA of it.
 * The hidden keys of a kernel in lockdown are a sentence once, when the first is seen, not once an SA.
 */
#include "control/xfrm_feed.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "control/xfrm_netlink.h"
#include "control/xfrm_proto.h"
#include "filters/log.h"

enum { BACKLOG = 8, MESSAGES_A_TURN = 256 };

struct xfrm_feed {
	struct event_base *base;
	struct event *acceptable, *readable;
	struct xfrm_sink sink;
	struct sockaddr_un address;
	uid_t uid;
	int listener, fd; // -1: none
	bool is_greeted, is_complete, is_refusal_told;
	int64_t since_s;
	struct xfrm_feed_status counts; // of the last whole list, and of what came since
	struct {
		bool is_there;
		int rc; // why it cannot be taken: -ENOMEM, -E2BIG
		struct sa_list list, events;
		bool is_gone[SA_MAX]; // of each event: a GONE, not a PUT_ONE
		uint32_t n_hidden, n_unsupported;
	} telling;
};

static void drop_telling(struct xfrm_feed *feed)
{
	sa_list_fini(&feed->telling.list);
	sa_list_fini(&feed->telling.events);
	feed->telling.is_there = false;
}

static void disconnect(struct xfrm_feed *feed)
{
	if (feed->readable != NULL)
		event_free(feed->readable);
	feed->readable = NULL;
	if (feed->fd >= 0)
		(void)close(feed->fd);
	feed->fd = -1;
	feed->is_greeted = feed->is_complete = false;
	drop_telling(feed);
	feed->since_s = time(NULL);
}

/* ---- What an SA may say ---- */

static bool is_address(const struct sa_address *a, bool may_be_any)
{
	static const struct sa_address any;

	if (a->family == 0)
		return may_be_any && memcmp(a, &any, sizeof(any)) == 0;
	if (!sa_address_is_whole(a) || a->reserved[0] != 0 || a->reserved[1] != 0 ||
	    a->reserved[2] != 0)
		return false;
	for (unsigned i = a->family == 4 ? 4 : 16; i < 16; i++)
		if (a->mask[i] != 0 || a->value[i] != 0)
			return false;
	return true;
}

static bool are_keys_fine(const struct sa_record *r)
{
	if (r->cipher >= ESP_CIPHER_COUNT || r->auth >= ESP_AUTH_COUNT)
		return false;
	if (r->cipher == ESP_UNSUPPORTED)
		return r->auth == ESP_AUTH_NONE &&
		       (r->icv_bytes | r->enc_key_bytes | r->auth_key_bytes) == 0;
	if (r->auth == ESP_AUTH_NONE || r->auth == ESP_AUTH_UNCHECKED) {
		if (r->auth_key_bytes != 0)
			return false;
	} else if (r->auth_key_bytes == 0 || r->auth_key_bytes > ESP_AUTH_KEY_MAX ||
		   (r->auth == ESP_AUTH_AES_XCBC_96 &&
		    r->auth_key_bytes != esp_auths[r->auth].key_bytes)) {
		return false;
	}
	return r->enc_key_bytes <= ESP_ENC_KEY_MAX && r->icv_bytes <= ESP_ICV_MAX &&
	       esp_takes_key((enum esp_cipher)r->cipher, r->enc_key_bytes) &&
	       esp_takes_icv((enum esp_cipher)r->cipher, (enum esp_auth)r->auth, r->icv_bytes);
}

static bool is_identity(const struct sa_record *r)
{
	return r->spi_mask == (uint32_t)SA_SPI_WHOLE && is_address(&r->dst, false) &&
	       is_address(&r->src, true);
}

/* Could it be in a set, and be told to people? */
static bool is_item(const struct sa_item *item)
{
	const struct sa_record *r = &item->record;
	unsigned bits = item->remote.family == 4 ? 32 : item->remote.family == 6 ? 128 : 0;

	return is_identity(r) && r->mode <= SA_MODE_TRANSPORT && (r->flags & ~SA_ESN) == 0 &&
	       are_keys_fine(r) && item->connection[0] == '\0' &&
	       *(const uint8_t *)&item->is_inbound <= 1 && (item->remote.family == 0 || bits > 0) &&
	       item->remote.prefix_len <= bits &&
	       memchr(item->algorithm, '\0', sizeof(item->algorithm)) != NULL;
}

/* ---- Messages ---- */

static void tell_hidden(void)
{
	log_warning(
		"The kernel hides the keys of its SAs: they came as zeros, as a kernel in lockdown "
		"mode \"confidentiality\" gives them, so what these SAs carry cannot be decrypted; "
		"boot without lockdown=confidentiality, or give the keys with esp.sa_file or "
		"`gatecap sa add`.");
}

/* The sink would not have it; said once, until it has taken a whole list again. */
static void tell_refusal(struct xfrm_feed *feed, const struct error *err)
{
	if (!feed->is_refusal_told)
		log_error("SAs of the kernel are not taken: %s", err->text);
	feed->is_refusal_told = true;
}

static void begin_list(struct xfrm_feed *feed)
{
	drop_telling(feed);
	feed->telling.is_there = true;
	feed->telling.rc = 0;
	feed->telling.n_hidden = feed->telling.n_unsupported = 0;
}

static void remember(struct xfrm_feed *feed, const struct sa_item *item, bool is_gone)
{
	struct sa_list *events = &feed->telling.events;

	if (!feed->telling.is_there || feed->telling.rc != 0)
		return;
	feed->telling.rc = sa_list_add(events, item);
	if (feed->telling.rc == 0)
		feed->telling.is_gone[events->n - 1] = is_gone;
}

static bool take_listed(struct xfrm_feed *feed, const struct xfrm_sa *sa)
{
	if (!feed->telling.is_there)
		return false;
	feed->telling.n_hidden += sa->fault == XFRM_KEYS_HIDDEN;
	feed->telling.n_unsupported += sa->fault == XFRM_UNSUPPORTED;
	if (feed->telling.rc == 0)
		feed->telling.rc = sa_list_add(&feed->telling.list, &sa->item);
	return true;
}

static void take_put(struct xfrm_feed *feed, const struct xfrm_sa *sa)
{
	struct error err = {0};

	feed->counts.n_unsupported += sa->fault == XFRM_UNSUPPORTED;
	if (sa->fault == XFRM_KEYS_HIDDEN && feed->counts.n_hidden++ == 0)
		tell_hidden();
	if (feed->sink.put(feed->sink.ctx, &sa->item, &err) != 0)
		tell_refusal(feed, &err);
	remember(feed, &sa->item, false);
}

static void take_gone(struct xfrm_feed *feed, const struct xfrm_sa *sa)
{
	(void)feed->sink.remove(feed->sink.ctx, &sa->item);
	remember(feed, &sa->item, true);
}

/* The sink takes the list; refused or not, it is empty then. */
static void replace(struct xfrm_feed *feed, struct sa_list *list)
{
	struct error err = {0};

	if (feed->sink.replace(feed->sink.ctx, list, &err) != 0)
		tell_refusal(feed, &err);
	else
		feed->is_refusal_told = false;
	sa_list_fini(list);
}

static void take_flush(struct xfrm_feed *feed)
{
	struct sa_list none = {0};

	sa_list_fini(&feed->telling.list);
	sa_list_fini(&feed->telling.events);
	feed->counts.n_sas = feed->counts.n_hidden = feed->counts.n_unsupported = 0;
	replace(feed, &none);
}

static int do_event(struct sa_list *list, const struct sa_item *item, bool is_gone)
{
	uint32_t i = 0;

	while (i < list->n && !sa_item_is_same_sa(&list->items[i], item))
		i++;
	if (i == list->n)
		return is_gone ? 0 : sa_list_add(list, item);
	if (is_gone)
		sa_list_remove(list, i);
	else
		list->items[i] = *item;
	return 0;
}

/* A list that cannot be held as a whole is not taken in part: SAs in force would go. */
static void refuse_list(struct xfrm_feed *feed)
{
	struct error err = {0};

	if (feed->telling.rc == -E2BIG)
		error_set(
			&err,
			"the kernel has more than %d, for which there is no room; those that were "
			"taken before stay in force.",
			SA_MAX);
	else
		error_set(&err, "memory is short; those that were taken before stay in force.");
	tell_refusal(feed, &err);
	drop_telling(feed);
}

static bool end_list(struct xfrm_feed *feed, const struct xfrm_end *end)
{
	struct sa_list *list = &feed->telling.list;
	const struct sa_list *events = &feed->telling.events;

	if (!feed->telling.is_there)
		return false;
	for (uint32_t i = 0; i < events->n && feed->telling.rc == 0; i++)
		feed->telling.rc = do_event(list, &events->items[i], feed->telling.is_gone[i]);
	if (feed->telling.rc != 0) {
		refuse_list(feed);
		return true;
	}
	if (feed->telling.n_hidden > 0 && feed->counts.n_hidden == 0)
		tell_hidden();
	if (!feed->is_complete)
		log_info("gatecap-xfrm has told the kernel's SAs: %u.", list->n);
	feed->is_complete = true;
	feed->counts.n_sas = list->n;
	feed->counts.n_hidden = feed->telling.n_hidden;
	feed->counts.n_unsupported = feed->telling.n_unsupported;
	feed->counts.n_foreign = end->n_foreign;
	feed->counts.n_malformed = end->n_malformed;
	replace(feed, list);
	drop_telling(feed);
	return true;
}

union message {
	struct xfrm_header h;
	struct xfrm_hello hello;
	struct xfrm_sa sa;
	struct xfrm_end end;
};

static bool take_sa(struct xfrm_feed *feed, const struct xfrm_sa *sa)
{
	if (sa->h.type == XFRM_GONE) {
		if (!is_identity(&sa->item.record))
			return false;
		take_gone(feed, sa);
		return true;
	}
	if (!is_item(&sa->item) || sa->fault > XFRM_UNSUPPORTED)
		return false;
	if (sa->h.type == XFRM_LISTED)
		return take_listed(feed, sa);
	take_put(feed, sa);
	return true;
}

/* One whole message; false: it is not one. */
static bool dispatch(struct xfrm_feed *feed, const union message *m, size_t bytes)
{
	if (bytes < sizeof(m->h) || m->h.magic != XFRM_MAGIC || m->h.version != XFRM_VERSION)
		return false;
	if (m->h.type == XFRM_HELLO) {
		feed->is_greeted = true;
		return bytes == sizeof(m->hello);
	}
	if (!feed->is_greeted)
		return false;
	switch (m->h.type) {
	case XFRM_BEGIN:
		begin_list(feed);
		return bytes == sizeof(m->hello);
	case XFRM_FLUSH:
		if (bytes != sizeof(m->hello))
			return false;
		take_flush(feed);
		return true;
	case XFRM_END:
		return bytes == sizeof(m->end) && end_list(feed, &m->end);
	case XFRM_LISTED:
	case XFRM_PUT_ONE:
	case XFRM_GONE:
		return bytes == sizeof(m->sa) && take_sa(feed, &m->sa);
	default:
		return false;
	}
}

/* ---- The connection ---- */

static void lose(struct xfrm_feed *feed, bool is_babble)
{
	if (is_babble)
		log_error("What came over %s is none of gatecap-xfrm's messages: are gatecapd and "
			  "gatecap-xfrm of one version?",
			  feed->address.sun_path);
	else
		log_warning(
			"gatecap-xfrm has gone; the SAs that it told stay in force, new ones are not "
			"heard of until it is back.");
	disconnect(feed);
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct xfrm_feed *feed = ctx;
	union message message;

	(void)what;
	for (unsigned i = 0; i < MESSAGES_A_TURN; i++) {
		ssize_t n = recv(fd, &message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC);
		bool is_babble;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		is_babble = n > 0 &&
			    ((size_t)n > sizeof(message) || !dispatch(feed, &message, (size_t)n));
		if (n <= 0 || is_babble) {
			lose(feed, is_babble);
			break;
		}
	}
	explicit_bzero(&message, sizeof(message));
}

static void on_acceptable(evutil_socket_t listener, short what, void *ctx)
{
	struct xfrm_feed *feed = ctx;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t size = sizeof(peer);

	(void)what;
	if (fd < 0)
		return; // it went away meanwhile
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != feed->uid) {
		log_warning("A process of user %u was turned away from %s.", peer.uid,
			    feed->address.sun_path);
		(void)close(fd);
		return;
	}
	disconnect(feed);
	feed->fd = fd;
	feed->readable = event_new(feed->base, fd, EV_READ | EV_PERSIST, on_readable, feed);
	if (feed->readable == NULL || event_add(feed->readable, NULL) != 0)
		disconnect(feed); // it comes again
	else
		log_info("gatecap-xfrm (pid %d) is connected.", (int)peer.pid);
}

/* ---- The listener ---- */

/* A socket that nobody serves any more is a left-over. */
static int remove_left_over(const struct sockaddr_un *address, struct error *err)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;
	bool is_dead;

	if (fd < 0 || lstat(address->sun_path, &st) != 0) {
		if (fd >= 0)
			(void)close(fd);
		return 0;
	}
	is_dead = S_ISSOCK(st.st_mode) &&
		  connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
		  errno == ECONNREFUSED;
	(void)close(fd);
	if (is_dead) {
		(void)unlink(address->sun_path);
		return 0;
	}
	error_set(
		err,
		"%s is in the way of the socket for gatecap-xfrm: it is no socket, or another process "
		"serves it; remove it, or give another path as esp.kernel_socket.",
		address->sun_path);
	return -EADDRINUSE;
}

static int listen_at(struct xfrm_feed *feed, struct error *err)
{
	const struct sockaddr *address = (const struct sockaddr *)&feed->address;
	mode_t mask;
	int rc = remove_left_over(&feed->address, err);

	if (rc != 0)
		return rc;
	feed->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	// The group's, too: gatecap-xfrm is root without the right to pass by a file's mode.
	mask = umask(0117);
	rc = feed->listener < 0 || bind(feed->listener, address, sizeof(feed->address)) != 0 ||
			     listen(feed->listener, BACKLOG) != 0
		     ? -errno
		     : 0;
	(void)umask(mask);
	if (rc != 0)
		error_set(
			err,
			"The socket %s for gatecap-xfrm cannot be made: %s; does its folder exist, and "
			"may this user write to it?  esp.kernel_socket is its path.",
			feed->address.sun_path, strerror(-rc));
	return rc;
}

struct xfrm_feed *xfrm_feed_open(struct event_base *base, const char *path, uid_t uid,
				 const struct xfrm_sink *sink, struct error *err)
{
	struct xfrm_feed *feed = calloc(1, sizeof(*feed));
	size_t bytes = strlen(path) + 1;

	if (feed == NULL || bytes > sizeof(feed->address.sun_path)) {
		error_set(err, "The socket %s for gatecap-xfrm cannot be made: %s.", path,
			  feed == NULL ? "memory is short" : "its path is too long");
		free(feed);
		return NULL;
	}
	feed->base = base;
	feed->sink = *sink;
	feed->uid = uid;
	feed->listener = feed->fd = -1;
	feed->since_s = time(NULL);
	feed->address.sun_family = AF_UNIX;
	memcpy(feed->address.sun_path, path, bytes);
	if (listen_at(feed, err) != 0) {
		xfrm_feed_close(feed);
		return NULL;
	}
	feed->acceptable =
		event_new(base, feed->listener, EV_READ | EV_PERSIST, on_acceptable, feed);
	if (feed->acceptable == NULL || event_add(feed->acceptable, NULL) != 0) {
		error_set(err, "Memory is short for the socket of gatecap-xfrm.");
		xfrm_feed_close(feed);
		return NULL;
	}
	return feed;
}

void xfrm_feed_close(struct xfrm_feed *feed)
{
	if (feed == NULL)
		return;
	disconnect(feed);
	if (feed->acceptable != NULL) {
		event_free(feed->acceptable);
		(void)unlink(feed->address.sun_path);
	}
	if (feed->listener >= 0)
		(void)close(feed->listener);
	free(feed);
}

void xfrm_feed_status(const struct xfrm_feed *feed, struct xfrm_feed_status *out)
{
	*out = feed->counts;
	out->is_connected = feed->fd >= 0;
	out->is_complete = feed->is_complete;
	out->since_s = feed->since_s;
}
