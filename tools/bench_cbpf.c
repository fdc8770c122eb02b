/* bench_cbpf.c - libpcap's compiler and interpreter on the long lists, as an expression of tcpdump's language.
 *
 * Optimized: without that, compiling is slower and the program four times as long.  The kernel would
 * translate the program to machine code, but takes 4,096 instructions at most.
 */
#include "tools/bench_lookup.h"

#include <stdio.h>
#include <stdlib.h>

#include <pcap/pcap.h>

struct cbpf {
	struct bpf_program program;
};

static void print_subnets(FILE *out, const char *direction, struct bench_subnet (*subnet)(uint32_t),
			  uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct bench_subnet s = subnet(i);

		(void)fprintf(out, "%s%s net %u.%u.%u.%u/%u", i == 0 ? "(" : " or ", direction,
			      s.address >> 24, s.address >> 16 & 0xff, s.address >> 8 & 0xff,
			      s.address & 0xff, s.prefix_len);
	}
	(void)fputc(')', out);
}

/* The lists in one direction: `from` is where the source subnets are looked for. */
static void print_direction(FILE *out, const char *from, const char *to, uint32_t n)
{
	(void)fputc('(', out);
	print_subnets(out, from, bench_list_src, n);
	(void)fputs(" and ", out);
	print_subnets(out, to, bench_list_dst, n);
	(void)fputs(" and (", out);
	for (uint32_t i = 0; i < n; i++)
		(void)fprintf(out, "%s%s port %u", i == 0 ? "" : " or ", to, bench_list_port(i));
	(void)fputs("))", out);
}

static char *expression(uint32_t n)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	if (out == NULL)
		return NULL;
	print_direction(out, "src", "dst", n);
	(void)fputs(" or ", out);
	print_direction(out, "dst", "src", n);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static int build(struct bench_lookup *l, uint32_t n)
{
	struct cbpf *cbpf = l->built;
	pcap_t *pcap = pcap_open_dead(DLT_EN10MB, SNAP_BYTES_MAX);
	char *text = expression(n);
	int rc = -1;

	l->why = "pcap_compile";
	if (pcap != NULL && text != NULL)
		rc = pcap_compile(pcap, &cbpf->program, text, 1, PCAP_NETMASK_UNKNOWN);
	if (rc == 0)
		l->size = cbpf->program.bf_len;
	else if (pcap != NULL)
		(void)fprintf(stderr, "pcap_compile: %s\n", pcap_geterr(pcap));
	if (pcap != NULL)
		pcap_close(pcap);
	free(text);
	return rc == 0 ? 0 : -1;
}

static void drop(struct bench_lookup *l)
{
	struct cbpf *cbpf = l->built;

	pcap_freecode(&cbpf->program);
}

static uint32_t burst(struct bench_lookup *l, const struct bench_lookup_frame *frames, uint32_t n)
{
	const struct cbpf *cbpf = l->built;
	uint32_t n_found = 0;

	for (uint32_t i = 0; i < n; i++)
		n_found += bpf_filter(cbpf->program.bf_insns, frames[i].bytes, BENCH_FRAME_64,
				      BENCH_FRAME_64) != 0;
	return n_found;
}

int bench_cbpf(const struct bench_options *o)
{
	struct cbpf cbpf = {0};
	struct bench_lookup lookup = {.engine = "libpcap cBPF",
				      .build = build,
				      .drop = drop,
				      .burst = burst,
				      .built = &cbpf,
				      .size_name = "instructions"};

	return bench_lookup(o, &lookup);
}
