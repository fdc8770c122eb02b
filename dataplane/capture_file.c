/* capture_file.c - libpcap reads, we give every frame an Ethernet header.
 *
 * Each frame is copied once into a buffer of ours, because libpcap's has neither room in front for a
 * synthetic header nor readable bytes behind.  Files are loaded before a run, so the copy is free.
 * What a file may lie about: the captured length (libpcap bounds it by the file's snap length, and
 * FRAME_BYTES_MAX bounds that here), the original length (raised to the captured one, and kept from
 * overflowing when a header is added), the time (what does not fit becomes 0).
 * A payload that is not IP gets EtherType 0xffff, which is reserved: it is nobody's.
 */
#include "dataplane/capture_file.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/cursor.h"

enum {
	HEADER_BYTES = 14,
	FRAME_BYTES_MAX = 262144, // libpcap's own limit for these link types
	TYPE_IPV4 = 0x0800,
	TYPE_IPV6 = 0x86dd,
	TYPE_NOBODYS = 0xffff,
	TYPE_LEAST = 0x0600, // below are lengths and Linux's pseudo protocols
};

struct capture_file {
	pcap_t *pcap;
	char *path;
	uint64_t n_frames; // read so far
	int link_type;
	bool broken;
	uint8_t buffer[HEADER_BYTES + FRAME_BYTES_MAX + CAPTURE_FILE_PAD_BYTES];
};

static uint16_t type_by_version(const struct cursor *c)
{
	if (c->left == 0)
		return TYPE_NOBODYS;
	if (c->at[0] >> 4 == 4)
		return TYPE_IPV4;
	return c->at[0] >> 4 == 6 ? TYPE_IPV6 : TYPE_NOBODYS;
}

/* Linux cooked capture: the protocol is the last field of v1's 16 bytes, the first of v2's 20. */
static uint16_t type_by_sll(struct cursor *c, size_t skip_before, size_t skip_behind)
{
	uint16_t type;

	if (!cursor_skip(c, skip_before) || !cursor_be16(c, &type) || !cursor_skip(c, skip_behind))
		return TYPE_NOBODYS;
	return type < TYPE_LEAST ? TYPE_NOBODYS : type;
}

/* BSD loopback: an address family in the byte order of the machine that captured; both are tried. */
static uint16_t type_by_family(struct cursor *c)
{
	uint16_t high, low, family;

	if (!cursor_be16(c, &high) || !cursor_be16(c, &low))
		return TYPE_NOBODYS;
	if (high != 0 && low != 0)
		return TYPE_NOBODYS;
	family = high == 0 ? low : __builtin_bswap16(high);
	switch (family) {
	case 2:
		return TYPE_IPV4;
	case 10: // Linux
	case 24: // NetBSD, OpenBSD
	case 28: // FreeBSD
	case 30: // macOS
		return TYPE_IPV6;
	default:
		return TYPE_NOBODYS;
	}
}

/* RFC 1662, with or without address and control; RFC 1661's one-byte protocols are odd. */
static uint16_t type_by_ppp(struct cursor *c)
{
	uint8_t first;
	uint16_t protocol;

	if (c->left >= 2 && c->at[0] == 0xff && c->at[1] == 0x03)
		(void)cursor_skip(c, 2);
	if (!cursor_u8(c, &first))
		return TYPE_NOBODYS;
	protocol = first;
	if (!(first & 1)) {
		uint8_t second;

		if (!cursor_u8(c, &second))
			return TYPE_NOBODYS;
		protocol = (uint16_t)(first << 8 | second);
	}
	if (protocol == 0x0021)
		return TYPE_IPV4;
	return protocol == 0x0057 ? TYPE_IPV6 : TYPE_NOBODYS;
}

static bool link_type_is_known(int link_type)
{
	switch (link_type) {
	case DLT_EN10MB:
	case DLT_RAW:
	case DLT_IPV4:
	case DLT_IPV6:
	case DLT_LINUX_SLL:
	case DLT_LINUX_SLL2:
	case DLT_NULL:
	case DLT_LOOP:
	case DLT_PPP:
	case DLT_PPP_SERIAL:
		return true;
	default:
		return false;
	}
}

/* The EtherType for a frame of any other link type than Ethernet; *c moves to its payload. */
static uint16_t link_header_read(int link_type, struct cursor *c)
{
	switch (link_type) {
	case DLT_LINUX_SLL:
		return type_by_sll(c, 14, 0);
	case DLT_LINUX_SLL2:
		return type_by_sll(c, 0, 18);
	case DLT_NULL:
	case DLT_LOOP:
		return type_by_family(c);
	case DLT_PPP:
	case DLT_PPP_SERIAL:
		return type_by_ppp(c);
	default:
		return type_by_version(c);
	}
}

/* Why libpcap refused, without a full stop of its own. */
static void open_failed(const char *path, const char *why, struct error *err)
{
	error_set(err,
		  "Cannot open the capture file \"%s\": %s. It has to be a pcap or pcapng file "
		  "that this "
		  "user may read, and not compressed.",
		  path, why);
}

static pcap_t *pcap_of(const char *path, struct error *err)
{
	char why[PCAP_ERRBUF_SIZE] = "";
	FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
	pcap_t *pcap;

	if (in == NULL) {
		open_failed(path, strerror(errno), err);
		return NULL;
	}
	pcap = pcap_fopen_offline_with_tstamp_precision(in, PCAP_TSTAMP_PRECISION_NANO, why);
	if (pcap == NULL) {
		open_failed(path, why, err);
		if (in != stdin)
			(void)fclose(in);
	}
	return pcap;
}

static void refuse_link_type(const char *path, int link_type, struct error *err)
{
	const char *name = pcap_datalink_val_to_name(link_type);

	error_set(err,
		  "Cannot use the capture file \"%s\": its link type is %s (%d). Ethernet, raw IP, "
		  "Linux "
		  "cooked, BSD loopback and PPP can be read; capture on such an interface instead.",
		  path, name != NULL ? name : "unknown", link_type);
}

struct capture_file *capture_file_open(const char *path, struct error *err)
{
	struct capture_file *file = NULL;
	pcap_t *pcap = pcap_of(path, err);

	if (pcap == NULL)
		return NULL;
	if (!link_type_is_known(pcap_datalink(pcap))) {
		refuse_link_type(path, pcap_datalink(pcap), err);
		goto fail;
	}
	file = malloc(sizeof(*file));
	if (file == NULL || (file->path = strdup(path)) == NULL) {
		open_failed(path, strerror(ENOMEM), err);
		goto fail;
	}
	file->pcap = pcap;
	file->link_type = pcap_datalink(pcap);
	file->n_frames = 0;
	file->broken = false;
	return file;
fail:
	free(file);
	pcap_close(pcap);
	return NULL;
}

void capture_file_close(struct capture_file *file)
{
	if (file == NULL)
		return;
	pcap_close(file->pcap);
	free(file->path);
	free(file);
}

/* libpcap puts nanoseconds into tv_usec when it was asked for that precision. */
static uint64_t time_of(const struct pcap_pkthdr *header)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)header->ts.tv_sec, INT64_C(1000000000), &ns) ||
	    __builtin_add_overflow(ns, (int64_t)header->ts.tv_usec, &ns) || ns < 0)
		return 0;
	return (uint64_t)ns;
}

static uint32_t put_header(uint8_t *at, uint16_t type)
{
	static const uint8_t addresses[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};

	memcpy(at, addresses, sizeof(addresses));
	at[12] = (uint8_t)(type >> 8);
	at[13] = (uint8_t)type;
	return HEADER_BYTES;
}

/* The frame as Ethernet, into file->buffer; the pad behind it is zero. */
static void frame_fill(struct capture_file *file, const struct pcap_pkthdr *header,
		       const uint8_t *data, struct file_frame *frame)
{
	struct cursor c = cursor_over(data, header->caplen);
	uint64_t wire_len = header->len > header->caplen ? header->len : header->caplen;
	uint32_t n_header = 0;

	if (file->link_type != DLT_EN10MB)
		n_header = put_header(file->buffer, link_header_read(file->link_type, &c));
	wire_len = wire_len - (header->caplen - c.left) + n_header;
	memcpy(file->buffer + n_header, c.at, c.left);
	memset(file->buffer + n_header + c.left, 0, CAPTURE_FILE_PAD_BYTES);
	*frame = (struct file_frame){
		.data = file->buffer,
		.len = (uint32_t)(n_header + c.left),
		.wire_len = wire_len < UINT32_MAX ? (uint32_t)wire_len : UINT32_MAX,
		.time_ns = time_of(header),
	};
}

static int broken(struct capture_file *file, const char *why, struct error *err)
{
	file->broken = true;
	if (file->n_frames == 0)
		error_set(err,
			  "No frame of the capture file \"%s\" can be read: %s. Converting it with "
			  "\"editcap -F pcap\" may help.",
			  file->path, why);
	else
		error_set(
			err,
			"The capture file \"%s\" cannot be read beyond frame %llu: %s. The frames up "
			"to there are good; converting it with \"editcap -F pcap\" may help.",
			file->path, (unsigned long long)file->n_frames, why);
	return -1;
}

int capture_file_read(struct capture_file *file, struct file_frame *frame, struct error *err)
{
	struct pcap_pkthdr *header;
	const u_char *data;
	int rc;

	if (file->broken)
		return broken(file, "an earlier read failed", err);
	rc = pcap_next_ex(file->pcap, &header, &data);
	if (rc == PCAP_ERROR_BREAK)
		return 0;
	if (rc != 1)
		return broken(file, pcap_geterr(file->pcap), err);
	if (header->caplen > FRAME_BYTES_MAX)
		return broken(file, "the next one claims more than 262144 bytes", err);
	frame_fill(file, header, data, frame);
	file->n_frames++;
	return 1;
}
