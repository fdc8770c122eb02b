/* captures_restore.c - what is found in the state folder at the start, and what becomes of it.
 *
 * After the death of gatecapd alone the dataplane goes on counting and recording into its rings: the
 * capture waits until the dataplane is connected, and if it is the one of before (epoch) goes on where
 * its last commit stood, without a gap.  If it is another one, its rings are gone: a gap.  After a reboot
 * (another run) nothing goes on by itself: the capture is Recovered.
 *
 * A file that cannot be read is said and left alone: somebody may want to look at it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/capture_state.h"
#include "control/captures_internal.h"
#include "dataplane/ovpn_flow.h"
#include "filters/log.h"

/* ---- books ---- */

/* Wall clock up to which nothing can be missing.  The last record: none is in the store that is later than a
 * segment that was held.  Without records: when the capture was last written down, less the time that a
 * segment may have been held then.
 */
static uint64_t last_known_ns(const struct capture *c, const struct store_counts *counts)
{
	uint64_t ns = counts->last_ns + (uint64_t)c->wall_offset_ns;

	if (counts->last_ns == 0)
		ns = c->saved_ns > OVPN_HOLD_NS ? c->saved_ns - OVPN_HOLD_NS : 0;
	return ns > c->started_ns ? ns : c->started_ns;
}

void capture_lose_dataplane(struct captures *m, struct capture *c)
{
	struct store_counts counts = {0};
	bool has_records;

	if (store_count(c->store, &counts) == 0)
		capture_settle(c, &counts);
	else
		capture_settle(c, NULL);
	has_records = counts.last_ns != 0;
	if (c->state == CAPTURE_RUNNING || (c->state == CAPTURE_STARTING && has_records))
		capture_add_gap(c, last_known_ns(c, &counts), 0, GAP_DATAPLANE_DOWN);
	if (c->state == CAPTURE_STOPPING) {
		capture_add_gap(c, last_known_ns(c, &counts), wall_now_ns(), GAP_DATAPLANE_DOWN);
		c->end_ns = 1; // nothing more can come
	}
	c->is_waiting = c->is_sent = c->is_left_out = false;
	c->epoch = c->first_generation = 0;
	(void)captures_save(m, c);
}

void capture_settle_cut(struct capture *c)
{
	struct store_counts counts = {0};
	uint64_t vanished = 0;
	bool is_known = false;

	if (c->cut_to_ns == 0 || store_count(c->store, &counts) != 0)
		return;
	for (unsigned port = 0; port < PORTS_MAX; port++)
		vanished += capture_ledger(c, port, &counts).in_flight;
	for (unsigned i = 0; i < c->n_gaps; i++)
		is_known |= strcmp(c->gaps[i].cause, GAP_CONTROL_DOWN) == 0;
	if (vanished == 0)
		return;
	if (!is_known)
		capture_add_gap(c, c->cut_from_ns, c->cut_to_ns, GAP_CONTROL_DOWN);
	capture_settle(c, &counts);
}

/* ---- the dataplane is there ---- */

/* It is the one of before, and has the capture. */
static void go_on(struct captures *m, struct capture *c)
{
	struct store_counts counts = {0};
	bool is_whole = true;

	c->is_sent = true;
	(void)store_count(c->store, &counts);
	c->cut_from_ns = last_known_ns(c, &counts);
	c->cut_to_ns = wall_now_ns();
	// A store without a commit of these rings: none of them was emptied since it was attached.
	if (c->mark.epoch == c->epoch)
		is_whole = merge_resume_store(m->merger, (unsigned)c->slot, c->store,
					      c->first_generation, &c->mark);
	else
		merge_set_store(m->merger, (unsigned)c->slot, c->store, c->first_generation);
	// One that stops may have been whole and let go of already: its books tell, capture_settle_cut().
	if (!is_whole && c->state != CAPTURE_STOPPING)
		capture_add_gap(c, c->cut_from_ns, c->cut_to_ns, GAP_CONTROL_DOWN);
}

static void attach(struct captures *m, struct capture *c)
{
	if (c->epoch != dp_client_shared(m->dp)->boot_id) {
		capture_lose_dataplane(m, c);
		return;
	}
	c->is_waiting = false;
	if (c->first_generation <= dp_client_generation(m->dp))
		go_on(m, c);
	else if (c->state == CAPTURE_STOPPING)
		c->end_ns = 1; // the set with it never arrived
	(void)captures_save(m, c);
}

void captures_attach(struct captures *m)
{
	for (unsigned slot = 0; slot < CAPTURES_MAX; slot++)
		if (m->slots[slot] != NULL && m->slots[slot]->is_waiting)
			attach(m, m->slots[slot]);
}

/* ---- the start ---- */

/* Not what the configuration says any more: then why, as a sentence. */
static bool fits_config(const struct captures *m, const struct capture *c, struct error *why)
{
	bool is_same = c->n_ports == m->config->n_ports;

	if (c->connection != NULL && captures_connection_index(m, c->connection) == UINT32_MAX) {
		error_set(why,
			  "Connection %s is missing from the configuration: the capture was ended.",
			  c->connection);
		return false;
	}
	for (unsigned i = 0; is_same && i < c->n_ports; i++)
		is_same = strcmp(c->port_names[i], m->config->ports[i].name) == 0;
	if (!is_same)
		error_set(why,
			  "The ports of the configuration are others now: the capture was ended.");
	return is_same;
}

/* It ended where its last record is. */
static void become_recovered(struct captures *m, struct capture *c,
			     const struct store_recovery *recovery, const char *cause,
			     const char *note)
{
	struct store_counts counts = {0};
	uint64_t last_ns, from_ns;
	char scope[NAME_MAX_BYTES + 16];

	capture_settle(c, store_count(c->store, &counts) == 0 ? &counts : NULL);
	last_ns = from_ns = last_known_ns(c, &counts);
	if (recovery->vanished_first_ns != 0 &&
	    recovery->vanished_first_ns + (uint64_t)c->wall_offset_ns < from_ns)
		from_ns = recovery->vanished_first_ns + (uint64_t)c->wall_offset_ns;
	capture_add_gap(c, from_ns, wall_now_ns(), cause);
	faults_add(&c->notes, "", "%s", note);
	c->state = CAPTURE_RECOVERED;
	c->aim = AIM_NONE;
	c->stopped_ns = last_ns;
	c->slot = -1;
	c->epoch = c->first_generation = c->end_ns = 0;
	c->has_final = false;
	log_warning("Capture %s on %s is Recovered: %s", c->id, capture_scope_text(c, scope), note);
	(void)captures_save(m, c);
}

static void restore_running(struct captures *m, struct capture *c,
			    const struct store_recovery *recovery, bool is_rebooted)
{
	struct error why = {0};
	char scope[NAME_MAX_BYTES + 16];

	if (is_rebooted) {
		become_recovered(
			m, c, recovery, GAP_REBOOT,
			"The machine was started anew while the capture ran: it ended with "
			"its last record.");
		return;
	}
	if (!fits_config(m, c, &why) || m->slots[c->slot] != NULL) {
		become_recovered(m, c, recovery, GAP_CONTROL_DOWN,
				 why.text[0] != '\0' ? why.text : "Another capture has its place.");
		return;
	}
	m->slots[c->slot] = c;
	c->is_waiting = c->epoch != 0;
	if (c->state != CAPTURE_STOPPING)
		c->end_ns = 0;
	else if (!c->is_waiting)
		c->end_ns = 1;
	c->is_left_out = c->state == CAPTURE_STOPPING && c->end_ns != 0;
	log_info("Capture %s on %s is %s, as before.", c->id, capture_scope_text(c, scope),
		 capture_state_name(c->state));
}

/* Data that a power loss took from a capture that was over. */
static void note_vanished(struct captures *m, struct capture *c,
			  const struct store_recovery *recovery)
{
	struct store_counts counts = {0};
	uint64_t vanished = 0;

	if (store_count(c->store, &counts) != 0)
		return;
	for (unsigned port = 0; port < PORTS_MAX; port++)
		vanished += capture_ledger(c, port, &counts).in_flight;
	if (vanished == 0)
		return;
	capture_add_gap(c, recovery->vanished_first_ns + (uint64_t)c->wall_offset_ns,
			recovery->vanished_last_ns + (uint64_t)c->wall_offset_ns, GAP_REBOOT);
	capture_settle(c, &counts);
	c->has_final = false;
	(void)captures_save(m, c);
}

/* False: its data cannot be used; said, and all is left alone. */
static bool restore_data(struct captures *m, struct capture *c)
{
	bool is_rebooted = strcmp(c->run, m->run) != 0;
	const struct store_settings settings = {.dir_fd = m->state_dir_fd, .name = c->id};
	struct store_recovery recovery = {0};
	char scope[NAME_MAX_BYTES + 16];
	struct error err = {0};

	c->store = store_resume(&settings, is_rebooted, &recovery, &err);
	if (c->store == NULL) {
		log_error("The capture %s on %s (%s) cannot be taken up again: %s", c->id,
			  capture_scope_text(c, scope), capture_state_name(c->state), err.text);
		return false;
	}
	c->mark = recovery.mark;
	captures_load_sas(m, c);
	if (capture_is_running(c)) {
		restore_running(m, c, &recovery, is_rebooted);
		return true;
	}
	if (is_rebooted)
		note_vanished(m, c, &recovery);
	if (c->state == CAPTURE_UPLOADING)
		capture_ended(m, c); // on its way again
	return true;
}

/* Gives the newer one of the two texts, or NULL and a phrase. */
static struct capture *load(const struct captures *m, const char *id, struct error *err)
{
	char name[FILE_NAME_BYTES];
	struct capture *found[2] = {0};
	struct error ignored = {0};

	for (unsigned i = 0; i < 2; i++) {
		struct error *why = i == 0 ? err : &ignored;
		size_t n;
		char *text;

		(void)captures_file_name(id, i == 0 ? "capture" : "tally", name);
		text = captures_read_file(m->state_dir_fd, name, CAPTURE_STATE_BYTES_MAX, &n, why);
		if (text != NULL)
			found[i] = capture_state_parse(text, n, why);
		free(text);
	}
	if (found[0] != NULL && strcmp(found[0]->id, id) != 0) {
		error_set(err, "it is of capture %s", found[0]->id);
		capture_free(found[0]);
		found[0] = NULL;
	}
	if (found[0] != NULL && found[1] != NULL && found[1]->n_saves > found[0]->n_saves &&
	    found[1]->state == found[0]->state && strcmp(found[1]->id, id) == 0) {
		capture_free(found[0]);
		return found[1];
	}
	capture_free(found[1]);
	return found[0];
}

/* An index that was never written, or is not there: the power may take one file of a folder and leave another. */
static bool is_unborn_index(int dir_fd, const char *id)
{
	static const char zeros[64];
	char name[FILE_NAME_BYTES], head[sizeof(zeros)] = {0};
	struct stat st;
	int fd;

	(void)captures_file_name(id, "index", name);
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || pread(fd, head, sizeof(head), 0) < 0)
		head[0] = 1;
	(void)close(fd);
	return memcmp(head, zeros, sizeof(zeros)) == 0;
}

/* The store of a capture that is over, or never was: a crash cut its making or its end short. */
static void remove_store(const struct captures *m, const char *id)
{
	static const char *const endings[] = {"data", "index"};
	char name[FILE_NAME_BYTES];
	struct stat st;

	if (!is_unborn_index(m->state_dir_fd, id)) {
		store_remove(m->state_dir_fd, id);
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		(void)captures_file_name(id, endings[i], name);
		if (fstatat(m->state_dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			(void)unlinkat(m->state_dir_fd, name, 0);
	}
}

static void restore_one(struct captures *m, const char *file, const char *id)
{
	struct error why = {0};
	struct capture *c = load(m, id, &why);
	bool is_kept = true;

	if (c == NULL) {
		log_error("The file %s in %s is no capture that can be taken up again: %s.  It is "
			  "left alone.",
			  file, m->config->control.state_dir, why.text);
		return;
	}
	c->next = m->list;
	m->list = c;
	if (capture_holds_scope(c)) {
		is_kept = restore_data(m, c);
	} else { // what a crash left of its data
		remove_store(m, c->id);
		captures_drop_sas(m, c);
	}
	if (!is_kept) {
		m->list = c->next;
		capture_free(c);
	}
}

/* The id of ID.ending, into out; false: the name is not of this form. */
static bool split_name(const char *name, const char *ending, char out[CAPTURE_ID_BYTES])
{
	size_t n = strlen(name), n_ending = strlen(ending);

	if (n <= n_ending || n - n_ending >= CAPTURE_ID_BYTES ||
	    strcmp(name + n - n_ending, ending) != 0)
		return false;
	memcpy(out, name, n - n_ending);
	out[n - n_ending] = '\0';
	return capture_id_is_sound(out);
}

/* What belongs to no capture: a start that was cut short, or an end. */
static void remove_orphan(const struct captures *m, const char *file)
{
	static const char *const secrets[] = {".sas", ".tally"}, *const stores[] = {".index",
										    ".data"};
	char id[CAPTURE_ID_BYTES], name[FILE_NAME_BYTES];
	struct stat st;

	if (split_name(file, ".new", id)) {
		captures_wipe_file(m->state_dir_fd, file);
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		bool is_text = split_name(file, secrets[i], id);

		if (!is_text && !split_name(file, stores[i], id))
			continue;
		(void)captures_file_name(id, "capture", name);
		if (fstatat(m->state_dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			return;
		if (is_text)
			captures_wipe_file(m->state_dir_fd, file);
		else
			remove_store(m, id);
	}
}

void captures_restore(struct captures *m)
{
	struct dirent **names = NULL;
	int n = scandirat(m->state_dir_fd, ".", &names, NULL, alphasort);
	char id[CAPTURE_ID_BYTES];

	for (int i = 0; i < n; i++)
		remove_orphan(m, names[i]->d_name);
	for (int i = 0; i < n; i++) // the ids are times: the newest comes to the front of the list
		if (split_name(names[i]->d_name, ".capture", id))
			restore_one(m, names[i]->d_name, id);
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	if (n < 0)
		log_error("The state folder %s cannot be read: %s.", m->config->control.state_dir,
			  strerror(errno));
}
