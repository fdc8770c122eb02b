/* test_sas.c - SAS URLs of every right kind and of every wrong kind, numbered; and addresses.
 *
 * The clock of the rules stands at 2026-03-01T12:00:00Z, so nothing here depends on the day.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/address.h"
#include "control/sas.h"

#define NOW   1772366400 /* 2026-03-01T12:00:00Z */
#define SIG   "sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%2B%3D"
#define SE    "&se=2026-03-02T12%3A00%3A00Z"
#define TOKEN "sv=2022-11-02&sr=c&sp=cw" SE "&" SIG
#define BLOB  "https://acct.blob.core.windows.net"

static const char *const hosts[] = {".blob.core.windows.net", "storage.example.org", "10.1.2.3",
				    "fd00::7", "localhost"};

static struct sas_rules rules_of(bool loopback)
{
	return (struct sas_rules){.allowed_hosts = hosts,
				  .n_allowed_hosts = sizeof(hosts) / sizeof(hosts[0]),
				  .allow_http_loopback = loopback,
				  .now = NOW};
}

struct right {
	int number;
	const char *url;
	bool loopback;
	const char *base;
	time_t expires;	     // offset from NOW, 0: unknown
	const char *warning; // part of the only one, NULL: none
};

static const struct right rights[] = {
	{1, BLOB "/cap?" TOKEN, false, BLOB "/cap", 86400, NULL},
	{2, BLOB "/cap/?" TOKEN, false, BLOB "/cap", 86400, NULL},
	{3, BLOB "/cap/site%20a/x?" TOKEN, false, BLOB "/cap/site%20a/x", 86400, NULL},
	{4, "HTTPS://Acct.BLOB.core.windows.net/cap?" TOKEN, false,
	 "https://Acct.BLOB.core.windows.net/cap", 86400, NULL},
	{5, BLOB ":443/cap?" TOKEN, false, BLOB ":443/cap", 86400, NULL},
	{6, BLOB "/cap?sv=1&ss=bf&srt=sco&sp=rwdlacu" SE "&spr=https&" SIG, false, BLOB "/cap",
	 86400, NULL},
	{7, BLOB "/cap/dir?sv=1&sr=d&sdd=1&sp=w" SE "&" SIG, false, BLOB "/cap/dir", 86400, NULL},
	{8, BLOB "/cap?sv=1&sr=c&si=policy&" SIG, false, BLOB "/cap", 0,
	 NULL}, // two warnings: below
	{9, BLOB "/cap?sv=1&sr=c&sp=rw&se=2026-03-01T12%3A59%3A00Z&" SIG, false, BLOB "/cap", 3540,
	 "it expires in 59 minutes"},
	{10, BLOB "/cap?sv=1&sr=c&sp=w&st=2026-03-01&se=2026-03-03&" SIG, false, BLOB "/cap",
	 129600, NULL},
	{11, BLOB "/cap?sv=1&sr=c&sp=w&se=2026-03-02T14:00:00.1234567%2B02:00&" SIG, false,
	 BLOB "/cap", 86400, NULL},
	{12, BLOB "/cap?sv=1&sr=c&sp=w&se=2026-03-02T12%3A00Z&" SIG, false, BLOB "/cap", 86400,
	 NULL},
	{13,
	 BLOB "/cap?sv=1&sr=c&sp=w" SE "&skoid=a&sktid=b&skt=2026-02-27T00:00:00Z"
	      "&ske=2026-03-02T00:00:00Z&sks=b&skv=1&" SIG,
	 false, BLOB "/cap", 43200, NULL},
	{14, "http://127.0.0.1:10000/devstoreaccount1/cap?" TOKEN, true,
	 "http://127.0.0.1:10000/devstoreaccount1/cap", 86400, NULL},
	{15, "https://[::1]:10000/devstoreaccount1/cap/x?" TOKEN, true,
	 "https://[::1]:10000/devstoreaccount1/cap/x", 86400, NULL},
	{16, "https://10.1.2.3/acct/cap?" TOKEN, false, "https://10.1.2.3/acct/cap", 86400, NULL},
	{17, "https://[FD00:0::7]:10000/acct/cap?" TOKEN, false,
	 "https://[FD00:0::7]:10000/acct/cap", 86400, NULL},
	{18, "https://storage.example.org/cap?" TOKEN, false, "https://storage.example.org/cap",
	 86400, NULL},
	{19, "https://storage.example.org:10000/acct/cap?" TOKEN, false,
	 "https://storage.example.org:10000/acct/cap", 86400, NULL},
	{20, BLOB "/cap?" TOKEN "&sip=1.2.3.4", false, BLOB "/cap", 86400, "client addresses"},
	{21, BLOB "/cap?sv=1&sr=c&sp=w" SE "&sig=abc%2B", false, BLOB "/cap", 86400,
	 "44 characters"},
	{22, BLOB "/cap?sr=c&sp=w" SE "&" SIG, false, BLOB "/cap", 86400, "storage version"},
	{23, BLOB "/a-1?" TOKEN, false, BLOB "/a-1", 86400, NULL},
	{24, "http://127.0.0.1:10000/acct/cap?" TOKEN "&spr=https%2Chttp", true,
	 "http://127.0.0.1:10000/acct/cap", 86400, NULL},
	{25, "https://localhost/acct/cap?" TOKEN, false, "https://localhost/acct/cap", 86400, NULL},
	{26, BLOB "/cap?sv=1&sr=c&sp=w" SE "&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+%3D",
	 false, BLOB "/cap", 86400, "bare +"},
	{28, BLOB "/cap/team@site?" TOKEN, false, BLOB "/cap/team@site", 86400, NULL},
	{27, BLOB "/cap?&sv=1&&SR=c&Sp=w&se=2026-03-02T12%3a00%3a00Z&flag&" SIG "&", false,
	 BLOB "/cap", 86400, NULL},
};

static void right_one(const struct right *t)
{
	struct sas_rules rules = rules_of(t->loopback);
	struct faults warnings = {0};
	struct error err = {0};
	struct sas sas = {0};
	unsigned n_expected = t->number == 8 ? 2 : t->warning != NULL;

	if (sas_parse(t->url, &rules, &sas, &err, &warnings) != 0)
		fail_msg("%d: refused: %s", t->number, err.text);
	if (strcmp(sas.base, t->base) != 0)
		fail_msg("%d: base is %s", t->number, sas.base);
	if (strcmp(sas.query, strchr(t->url, '?') + 1) != 0)
		fail_msg("%d: the query was changed", t->number);
	if (sas.expires != (t->expires != 0 ? NOW + t->expires : 0))
		fail_msg("%d: expires %lld", t->number, (long long)sas.expires - NOW);
	if (warnings.n != n_expected)
		fail_msg("%d: %u warnings", t->number, warnings.n);
	if (t->warning != NULL && strstr(warnings.list[0].text, t->warning) == NULL)
		fail_msg("%d: warns: %s", t->number, warnings.list[0].text);
	for (unsigned i = 0; i < warnings.n; i++)
		assert_string_equal(warnings.list[i].pointer, "/sasUrl");
	sas_fini(&sas);
	faults_fini(&warnings);
}

static void every_right_kind_is_taken_byte_for_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++)
		right_one(&rights[i]);
}

struct wrong {
	int number;
	const char *url;
	bool loopback;
	const char *words; // the sentence holds them
};

static const struct wrong wrongs[] = {
	{1, "", false, "does not start with https://"},
	{2, "acct.blob.core.windows.net/cap?" TOKEN, false, "does not start with https://"},
	{3, "ftp://acct.blob.core.windows.net/cap?" TOKEN, false, "does not start with https://"},
	{4, "http://acct.blob.core.windows.net/cap?" TOKEN, false, "in the clear"},
	{5, "http://acct.blob.core.windows.net/cap?" TOKEN, true, "in the clear"},
	{6, "http://127.0.0.1:10000/acct/cap?" TOKEN, false, "in the clear"},
	{7, "http://10.1.2.3/acct/cap?" TOKEN, true, "in the clear"},
	{8, "http://localhost:10000/acct/cap?" TOKEN, true, "in the clear"},
	{9, "https://user@acct.blob.core.windows.net/cap?" TOKEN, false, "user name"},
	{10, "https://u:p@acct.blob.core.windows.net/cap?" TOKEN, false, "user name"},
	{11, "https://acct.blob.core.windows.net@evil.example/cap?" TOKEN, false, "user name"},
	{12, BLOB "/cap?" TOKEN "#x", false, "fragment"},
	{13, BLOB "/cap#?" TOKEN, false, "fragment"},
	{14, BLOB "/ca p?" TOKEN, false, "a space at character 38"},
	{15, BLOB "/cap?" TOKEN "\n", false, "line break"},
	{16, BLOB "/cap?" TOKEN "\x7f", false, "control character"},
	{17, BLOB "/c\xc3\xa4p?" TOKEN, false, "outside ASCII"},
	{18, BLOB "/cap", false, "no SAS token"},
	{19, BLOB "/cap?", false, "no SAS token"},
	{20, "https:///cap?" TOKEN, false, "no host"},
	{21, "https://:443/cap?" TOKEN, false, "no host"},
	{22, BLOB ":/cap?" TOKEN, false, "port"},
	{23, BLOB ":0/cap?" TOKEN, false, "port"},
	{24, BLOB ":65536/cap?" TOKEN, false, "port"},
	{25, BLOB ":443x/cap?" TOKEN, false, "port"},
	{26, BLOB ":8443/acct/cap?" TOKEN, false, "port 8443"},
	{27, "https://evil.example/cap?" TOKEN, false, "evil.example is not allowed"},
	{28, "https://blob.core.windows.net/cap?" TOKEN, false, "not allowed"},
	{29, "https://acct.blob.core.windows.net.evil.example/cap?" TOKEN, false, "not allowed"},
	{30, "https://evilblob.core.windows.net/cap?" TOKEN, false, "not allowed"},
	{31, "https://.blob.core.windows.net/cap?" TOKEN, false, "valid host name"},
	{32, "https://acct.blob.core.windows.net./cap?" TOKEN, false, "valid host name"},
	{33, "https://acct..blob.core.windows.net/cap?" TOKEN, false, "valid host name"},
	{34, "https://ac%63t.blob.core.windows.net/cap?" TOKEN, false, "valid host name"},
	{35, "https://evil.example\\.blob.core.windows.net/cap?" TOKEN, false, "valid host name"},
	{36, "https://8.8.8.8/acct/cap?" TOKEN, false, "8.8.8.8 is not allowed"},
	{37, "https://10.0.0.4/acct/cap?" TOKEN, false, "a private address"},
	{38, "https://192.168.1.1/acct/cap?" TOKEN, false, "a private address"},
	{39, "https://169.254.169.254/acct/cap?" TOKEN, false, "metadata"},
	{40, "https://168.63.129.16/acct/cap?" TOKEN, false, "metadata"},
	{41, "https://169.254.1.1/acct/cap?" TOKEN, false, "link-local"},
	{42, "https://127.0.0.1/acct/cap?" TOKEN, false, "loopback"},
	{43, "https://[::1]/acct/cap?" TOKEN, false, "loopback"},
	{44, "https://[::ffff:169.254.169.254]/acct/cap?" TOKEN, true, "metadata"},
	{45, "https://[fe80::1]/acct/cap?" TOKEN, true, "link-local"},
	{46, "https://[fe80::1%25eth0]/acct/cap?" TOKEN, true, "valid host name"},
	{47, "https://0.0.0.0/acct/cap?" TOKEN, true, "not the address of a host"},
	{48, "https://2130706433/acct/cap?" TOKEN, true, "unusual spelling"},
	{49, "https://0x7f.1/acct/cap?" TOKEN, true, "unusual spelling"},
	{50, "https://127.1/acct/cap?" TOKEN, true, "unusual spelling"},
	{51, "https://0177.0.0.1/acct/cap?" TOKEN, true, "unusual spelling"},
	{52, "https://::1/acct/cap?" TOKEN, true, "no host"},
	{53, "https://[10.1.2.3]/acct/cap?" TOKEN, true, "valid host name"},
	{54, "https://[::1/acct/cap?" TOKEN, true, "not readable"},
	{55, "https://[::1]x/acct/cap?" TOKEN, true, "not readable"},
	{56, BLOB "?" TOKEN, false, "names no container (its path is empty)"},
	{57, BLOB "/?" TOKEN, false, "names no container (its path is empty)"},
	{58, "https://10.1.2.3/acct?" TOKEN, false,
	 "names no container (its path is the account alone)"},
	{59, "http://127.0.0.1:10000/acct?" TOKEN, true, "the account alone"},
	{60, BLOB "/$logs?" TOKEN, false, "begin with $"},
	{61, BLOB "/$web/x?" TOKEN, false, "begin with $"},
	{62, BLOB "/%24logs?" TOKEN, false, "begin with $"},
	{63, BLOB "/ab?" TOKEN, false, "container ab, which cannot be one"},
	{64, BLOB "/Captures?" TOKEN, false, "container Captures"},
	{65, BLOB "/a--b?" TOKEN, false, "container a--b"},
	{66, BLOB "/-ab?" TOKEN, false, "container -ab"},
	{67, BLOB "/ab-?" TOKEN, false, "container ab-"},
	{68, BLOB "/a_b?" TOKEN, false, "container a_b"},
	{69, BLOB "/abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl?" TOKEN, false,
	 "cannot be one"},
	{70, BLOB "//cap?" TOKEN, false, "empty part"},
	{71, BLOB "/cap//x?" TOKEN, false, "empty part"},
	{72, BLOB "/cap/../x?" TOKEN, false, ". or .."},
	{73, BLOB "/cap/%2e%2E?" TOKEN, false, ". or .."},
	{74, BLOB "/cap/.?" TOKEN, false, ". or .."},
	{75, BLOB "/cap/a%2fb?" TOKEN, false, "encodes nothing"},
	{76, BLOB "/cap/a%0ab?" TOKEN, false, "encodes nothing"},
	{77, BLOB "/cap/a%zz?" TOKEN, false, "encodes nothing"},
	{78, BLOB "/cap/a%2?" TOKEN, false, "encodes nothing"},
	{79, BLOB "/cap/a\\b?" TOKEN, false, "the character \\"},
	{80, BLOB "/cap?sv=1&sr=b&sp=cw" SE "&" SIG, false, "single blob (sr=b)"},
	{81, BLOB "/cap/x?sv=1&sr=bs&sp=cw" SE "&" SIG, false, "single blob (sr=bs)"},
	{82, BLOB "/cap?sv=1&sr=d&sdd=1&sp=cw" SE "&" SIG, false, "names none below the container"},
	{83, BLOB "/cap?sv=1&sr=s&sp=cw" SE "&" SIG, false, "other than a container (sr=s)"},
	{84, BLOB "/cap?sv=1&sr=&sp=cw" SE "&" SIG, false, "sr is empty"},
	{85, BLOB "/cap?sv=1&sp=cw" SE "&" SIG, false, "neither sr nor ss"},
	{86, BLOB "/cap?sv=1&ss=qf&srt=co&sp=w" SE "&" SIG, false, "ss has no b"},
	{87, BLOB "/cap?sv=1&ss=b&srt=sc&sp=w" SE "&" SIG, false, "srt has no o"},
	{88, BLOB "/cap?sv=1&ss=b&sp=w" SE "&" SIG, false, "srt has no o"},
	{89, BLOB "/cap?sv=1&sr=c&sp=r" SE "&" SIG, false, "sp=r has no w"},
	{90, BLOB "/cap?sv=1&sr=c&sp=racl" SE "&" SIG, false, "sp=racl has no w"},
	{91, BLOB "/cap?sv=1&sr=c&sp=" SE "&" SIG, false, "grants nothing"},
	{92, BLOB "/cap?sv=1&sr=c" SE "&" SIG, false, "grants nothing"},
	{93, BLOB "/cap?sv=1&sr=c&sp=w" SE, false, "no signature"},
	{94, BLOB "/cap?sv=1&sr=c&sp=w" SE "&sig=", false, "no signature"},
	{95, BLOB "/cap?sv=2022-11-02", false, "in quotes"},
	{96, BLOB "/cap?sv=1&sr=c&sp=w&se=2026-03-01T11%3A59%3A00Z&" SIG, false,
	 "expired 60 s ago"},
	{97, BLOB "/cap?sv=1&sr=c&sp=w&se=2026-03-01&" SIG, false, "expired 12 hours ago"},
	{98, BLOB "/cap?sv=1&sr=c&sp=w&se=2020-10-27&" SIG, false, "days ago"},
	{99, BLOB "/cap?sv=1&sr=c&sp=w&se=soon&" SIG, false, "se is not a time"},
	{100, BLOB "/cap?sv=1&sr=c&sp=w&se=2026-02-30&" SIG, false, "se is not a time"},
	{101, BLOB "/cap?sv=1&sr=c&sp=w&se=2026-03-02T25:00Z&" SIG, false, "se is not a time"},
	{102, BLOB "/cap?sv=1&sr=c&sp=w&se=2026-03-02T12:00&" SIG, false, "se is not a time"},
	{103, BLOB "/cap?sv=1&sr=c&sp=w&se=&" SIG, false, "se is not a time"},
	{104, BLOB "/cap?sv=1&sr=c&sp=w&" SIG, false, "no expiry"},
	{105, BLOB "/cap?sv=1&sr=c&sp=w&st=2026-03-01T12%3A30%3A00Z" SE "&" SIG, false,
	 "30 minutes ahead of this machine's clock"},
	{106, BLOB "/cap?sv=1&sr=c&sp=w&st=x" SE "&" SIG, false, "st is not a time"},
	{107, BLOB "/cap?sv=1&sr=c&sp=w" SE "&ske=2026-03-01T11:00:00Z&" SIG, false,
	 "user delegation key (ske="},
	{108, BLOB "/cap?" TOKEN "&sr=b", false, "sr twice"},
	{109, BLOB "/cap?" TOKEN "&sig=x", false, "sig twice"},
	{110, BLOB "/cap?restype=container&comp=list&" TOKEN, false,
	 "restype, which belongs to one request"},
	{111, BLOB "/cap?" TOKEN "&comp=blocklist", false, "comp, which belongs to one request"},
	{112, "http://127.0.0.1:10000/acct/cap?" TOKEN "&spr=https", true, "for https only"},
	{113, BLOB "/cap?sv=1&sr=c&sp=w%20" SE "&" SIG, false, "grants nothing"},
	{115, BLOB "/cap?sv=1&sr=c&sp=w" SE "&sig=AAAAAAAAAA%2", false, "% that encodes nothing"},
	{116, BLOB "/cap?" TOKEN "&x=%00", false, "% that encodes nothing"},
	{117, "http://127.0.0.1:10000/@acct/cap?" TOKEN, true, "the name of a storage account"},
	{118, "https://10.1.2.3/Acct/cap?" TOKEN, false, "the name of a storage account"},
	{114, BLOB "/cap?sv=1&sr=c&se=1970-01-01&sp=w&" SIG, false, "expired"},
};

static void wrong_one(const struct wrong *t)
{
	struct sas_rules rules = rules_of(t->loopback);
	struct sas sas = {.expires = 42};
	struct error err = {0};

	if (sas_parse(t->url, &rules, &sas, &err, NULL) != -EINVAL)
		fail_msg("%d: taken: %s", t->number, t->url);
	if (strstr(err.text, t->words) == NULL)
		fail_msg("%d: says: %s", t->number, err.text);
	if (strstr(err.text, "AAAAAAAA") != NULL)
		fail_msg("%d: shows the signature: %s", t->number, err.text);
	if (strchr(err.text, ':') == NULL) // every sentence goes on with what to do
		fail_msg("%d: names no way out: %s", t->number, err.text);
	assert_int_equal(sas.expires, 42);
	assert_null(sas.query);
}

static void every_wrong_kind_is_refused_with_its_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
		wrong_one(&wrongs[i]);
}

static void a_url_too_long_is_refused_and_one_just_short_enough_is_not(void **state)
{
	struct sas_rules rules = rules_of(false);
	char url[SAS_URL_BYTES_MAX + 2];
	struct error err = {0};
	struct sas sas;
	int n = snprintf(url, sizeof(url), "%s/cap?%s&x=", BLOB, TOKEN);

	(void)state;
	memset(url + n, 'x', sizeof(url) - (size_t)n);
	url[SAS_URL_BYTES_MAX + 1] = '\0';
	assert_int_equal(sas_parse(url, &rules, &sas, &err, NULL), -EINVAL);
	assert_non_null(strstr(err.text, "longer than 8192"));
	url[SAS_URL_BYTES_MAX] = '\0';
	assert_int_equal(sas_parse(url, &rules, &sas, &err, NULL), 0);
	sas_fini(&sas);
}

static void without_allowed_hosts_nothing_is_allowed(void **state)
{
	struct sas_rules rules = {.now = NOW};
	struct error err = {0};
	struct sas sas;

	(void)state;
	assert_int_equal(sas_parse(BLOB "/cap?" TOKEN, &rules, &sas, &err, NULL), -EINVAL);
	assert_non_null(strstr(err.text, "upload.allowed_hosts"));
}

static void what_may_be_shown_never_holds_the_token(void **state)
{
	static const struct {
		int number;
		const char *url, *shown;
	} t[] = {
		{1, BLOB "/cap?" TOKEN, BLOB "/cap?<redacted>"},
		{2, BLOB "/cap", BLOB "/cap"},
		{3, BLOB "/cap?", BLOB "/cap?<redacted>"},
		{4, TOKEN, "<redacted>"},
		{5, "", ""},
		{6, "?" TOKEN, "?<redacted>"},
		{7, BLOB "/cap#" TOKEN, BLOB "/cap<redacted>"},
		{8, BLOB "/cap&" TOKEN, BLOB "/cap<redacted>"},
		{9, BLOB "/cap%3F" TOKEN, BLOB "/cap<redacted>"},
		{10, "https://user:AAAAAAAA@host/cap?x", "https://<redacted>"},
		{11, "https://user:AA?AAAAAAAA@host/cap?x", "https://<redacted>"},
		{12, "https://host?" TOKEN "@b", "https://<redacted>"},
		{13, BLOB "/c\n\x80p?" TOKEN, BLOB "/c__p?<redacted>"},
		{14, "HTTP://h/c?" TOKEN, "HTTP://h/c?<redacted>"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char *shown = sas_redacted(t[i].url);

		if (strcmp(shown, t[i].shown) != 0)
			fail_msg("%d: shows %s", t[i].number, shown);
		free(shown);
	}
}

static void a_blob_url_keeps_the_query_and_encodes_the_name(void **state)
{
	struct sas_rules rules = rules_of(false);
	struct error err = {0};
	struct sas sas;
	char *url;

	(void)state;
	assert_int_equal(sas_parse(BLOB "/cap/dir/?" TOKEN, &rules, &sas, &err, NULL), 0);
	url = sas_blob_url(&sas, "gw/a b:c+%?#&\xc3\xa4~._-9.pcap", "comp=blocklist");
	assert_string_equal(url, BLOB "/cap/dir/gw/a%20b%3Ac%2B%25%3F%23%26%C3%A4~._-9.pcap?" TOKEN
				      "&comp=blocklist");
	free(url);
	url = sas_blob_url(&sas, "x", NULL);
	assert_string_equal(url, BLOB "/cap/dir/x?" TOKEN);
	free(url);
	sas_fini(&sas);
}

static void a_finished_sas_can_be_finished_again(void **state)
{
	struct sas sas = {0};

	(void)state;
	sas_fini(&sas);
	sas_fini(&sas);
	assert_null(sas.query);
}

static void addresses_are_told_apart(void **state)
{
	static const struct {
		int number;
		const char *text;
		enum address_class class;
	} t[] = {
		{1, "8.8.8.8", ADDRESS_PUBLIC},
		{2, "10.255.0.1", ADDRESS_PRIVATE},
		{3, "172.15.255.255", ADDRESS_PUBLIC},
		{4, "172.16.0.0", ADDRESS_PRIVATE},
		{5, "172.31.255.255", ADDRESS_PRIVATE},
		{6, "172.32.0.0", ADDRESS_PUBLIC},
		{7, "192.168.9.9", ADDRESS_PRIVATE},
		{8, "100.64.0.1", ADDRESS_PRIVATE},
		{9, "100.128.0.1", ADDRESS_PUBLIC},
		{10, "127.255.255.254", ADDRESS_LOOPBACK},
		{11, "169.254.0.1", ADDRESS_LINK_LOCAL},
		{12, "169.254.169.254", ADDRESS_METADATA},
		{13, "168.63.129.16", ADDRESS_METADATA},
		{14, "168.63.129.17", ADDRESS_PUBLIC},
		{15, "0.1.2.3", ADDRESS_UNUSABLE},
		{16, "224.0.0.1", ADDRESS_UNUSABLE},
		{17, "255.255.255.255", ADDRESS_UNUSABLE},
		{18, "223.255.255.255", ADDRESS_PUBLIC},
		{19, "2603:1030::1", ADDRESS_PUBLIC},
		{20, "::1", ADDRESS_LOOPBACK},
		{21, "::", ADDRESS_UNUSABLE},
		{22, "fe80::1", ADDRESS_LINK_LOCAL},
		{23, "febf::1", ADDRESS_LINK_LOCAL},
		{24, "fd12::1", ADDRESS_PRIVATE},
		{25, "fc00::1", ADDRESS_PRIVATE},
		{26, "fd00:ec2::254", ADDRESS_METADATA},
		{27, "ff02::1", ADDRESS_UNUSABLE},
		{28, "::ffff:127.0.0.1", ADDRESS_LOOPBACK},
		{29, "::ffff:8.8.8.8", ADDRESS_PUBLIC},
		{30, "::169.254.169.254", ADDRESS_METADATA},
		{31, "64:ff9b::a9fe:a9fe", ADDRESS_METADATA},
		{32, "2002:7f00:1::", ADDRESS_LOOPBACK},
		{33, "64:ff9b::808:808", ADDRESS_PUBLIC},
		{34, "100.100.100.200", ADDRESS_METADATA},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct sockaddr_storage address;

		assert_true(address_parse(t[i].text, &address));
		if (address_classify((struct sockaddr *)&address) != t[i].class)
			fail_msg("%d: %s is %s", t[i].number, t[i].text,
				 address_class_name(address_classify((struct sockaddr *)&address)));
	}
}

static void what_is_no_address_is_unusable(void **state)
{
	struct sockaddr_storage address = {.ss_family = AF_UNIX};

	(void)state;
	assert_int_equal(address_classify((struct sockaddr *)&address), ADDRESS_UNUSABLE);
	assert_false(address_parse("", &address));
	assert_false(address_parse("[]", &address));
	assert_false(address_parse("host", &address));
	assert_false(address_parse("1111:1111:1111:1111:1111:1111:1111:1111:1111:1111", &address));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_right_kind_is_taken_byte_for_byte),
		cmocka_unit_test(every_wrong_kind_is_refused_with_its_reason),
		cmocka_unit_test(a_url_too_long_is_refused_and_one_just_short_enough_is_not),
		cmocka_unit_test(without_allowed_hosts_nothing_is_allowed),
		cmocka_unit_test(what_may_be_shown_never_holds_the_token),
		cmocka_unit_test(a_blob_url_keeps_the_query_and_encodes_the_name),
		cmocka_unit_test(a_finished_sas_can_be_finished_again),
		cmocka_unit_test(addresses_are_told_apart),
		cmocka_unit_test(what_is_no_address_is_unusable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
