/* bench_match.c - our own matcher on the long lists, by itself: what acl and cbpf stand beside. */
#include "tools/bench_lookup.h"

#include "filters/matcher.h"
#include "tools/pipeline.h"

struct ours {
	const struct bench_options *o;
	struct config config;
	struct matcher *matcher;
};

static int build(struct bench_lookup *l, uint32_t n)
{
	struct ours *ours = l->built;
	struct bench_options o = *ours->o;
	struct filter_data data = {0};
	struct error err = {0};
	const struct pipeline_settings settings = {.config = &ours->config,
						   .data = &data,
						   .n_captures = 1,
						   .connection = SET_GATEWAY_WIDE};

	o.filter = FILTER_LISTS;
	o.mix.list_length = n;
	l->why = "memory";
	if (bench_filter_data(&o, 0, &data) != 0)
		return -1;
	ours->matcher = pipeline_matcher(&settings, &err);
	filter_data_fini(&data);
	l->size = 3.0 * n;
	return ours->matcher != NULL ? 0 : -1;
}

static void drop(struct bench_lookup *l)
{
	struct ours *ours = l->built;

	matcher_close(ours->matcher);
	ours->matcher = NULL;
}

static uint32_t burst(struct bench_lookup *l, const struct bench_lookup_frame *frames, uint32_t n)
{
	const struct ours *ours = l->built;
	uint32_t n_found = 0;

	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *f = frames[i].bytes;
		const struct match_key key = {
			.src = f + 26,
			.dst = f + 30,
			.family = 4,
			.protocol = f[23],
			.has_ports = true,
			.sport = (uint16_t)(f[34] << 8 | f[35]),
			.dport = (uint16_t)(f[36] << 8 | f[37]),
		};

		n_found += match_fold(match_inner(ours->matcher, &key));
	}
	return n_found;
}

int bench_match(const struct bench_options *o)
{
	static struct ours ours;
	struct bench_lookup lookup = {.engine = "gatecap's matcher",
				      .build = build,
				      .drop = drop,
				      .burst = burst,
				      .built = &ours,
				      .size_name = "list_elements"};
	int rc = -1;

	ours.o = o;
	if (config_defaults(&ours.config) == 0)
		rc = bench_lookup(o, &lookup);
	config_fini(&ours.config);
	return rc;
}
