/* verdict.c - names and sums of the verdicts in verdict.h. */
#include "dataplane/verdict.h"

const char *verdict_name(enum verdict verdict)
{
	static const char *const names[VERDICT_COUNT] = {
#define X(name, text) [VERDICT_##name] = text,
		VERDICT_LIST(X)
#undef X
	};

	return verdict < VERDICT_COUNT ? names[verdict] : "unknown";
}

uint64_t tally_total(const struct tally *tally)
{
	uint64_t total = tally->n_held;

	for (unsigned i = 0; i < VERDICT_COUNT; i++)
		total += tally->verdicts[i];
	return total;
}
