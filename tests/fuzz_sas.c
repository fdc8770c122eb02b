/* fuzz_sas.c - any bytes as a SAS URL: no crash, no leak, and nothing taken that breaks the promises.
 *
 * The first byte chooses the rules, the rest is the URL.  Run: fuzz_sas
 * with the files of tests/corpus/sas as seeds (meson test --suite fuzz)
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "control/sas.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_taken(const char *url, const struct sas *sas)
{
	const char *question = strchr(url, '?');
	char *blob = sas_blob_url(sas, "a/b c", "comp=block");

	assert(question != NULL && strcmp(sas->query, question + 1) == 0);
	assert(strncasecmp(sas->base, "https://", 8) == 0 ||
	       strncasecmp(sas->base, "http://", 7) == 0);
	assert(strpbrk(sas->base, "?# \\") == NULL);
	assert(memchr(sas->base + 7, '@', strcspn(sas->base + 8, "/") + 1) == NULL); // userinfo
	assert(sas->base[strlen(sas->base) - 1] != '/');
	assert(blob != NULL && strncmp(blob, sas->base, strlen(sas->base)) == 0);
	assert(strstr(blob, "/a/b%20c?") != NULL);
	free(blob);
}

/* What is shown is a beginning of the URL, cut before anything that could be a token. */
static void check_redacted(const char *url)
{
	char *shown = sas_redacted(url);
	const char *query = strchr(url, '?');

	assert(shown != NULL);
	if (query != NULL && strlen(query) > 12)
		assert(strstr(shown, query) == NULL);
	for (const char *c = shown; *c != '\0'; c++)
		assert(*c >= ' ' && *c <= '~');
	free(shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const hosts[] = {".blob.core.windows.net", "10.1.2.3", "host.example"};
	struct sas_rules rules = {.allowed_hosts = hosts, .n_allowed_hosts = 3, .now = 1772366400};
	struct faults warnings = {0};
	struct error err = {0};
	struct sas sas = {0};
	char *url;

	if (size == 0)
		return 0;
	rules.allow_http_loopback = (data[0] & 1) != 0;
	url = malloc(size);
	assert(url != NULL);
	memcpy(url, data + 1, size - 1);
	url[size - 1] = '\0';
	if (sas_parse(url, &rules, &sas, &err, &warnings) == 0)
		check_taken(url, &sas);
	else
		assert(err.text[0] != '\0' && sas.query == NULL);
	check_redacted(url);
	sas_fini(&sas);
	faults_fini(&warnings);
	free(url);
	return 0;
}
