/* test_sa_json.c - one SA as JSON: what is read, what is a fault and where, and that no key comes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/sa_json.h"

#define K16	  "00112233445566778899aabbccddeeff"
#define K20	  K16 "01020304"
#define K32	  K16 K16
#define SA(more)  "{\"spi\":\"0x1234\",\"dst\":\"192.0.2.1\"" more "}"
#define GCM(more) SA(",\"encryption\":\"aes-gcm\",\"encryption_key\":\"" K20 "\"" more)
#define CBC(more) SA(",\"encryption\":\"aes-cbc\",\"encryption_key\":\"" K16 "\"" more)

static struct sa_item item;

/* The faults, one a line; "" when there are none.  free() it. */
static char *read_as(const char *text, enum sa_json_extent extent)
{
	struct faults faults = {0};
	int rc = sa_json_parse(text, strlen(text), extent, &item, &faults);
	char *lines = faults_text(&faults);

	assert_non_null(lines);
	assert_int_equal(rc, lines[0] == '\0' ? 0 : -EINVAL);
	faults_fini(&faults);
	return lines;
}

static const struct sa_record *good(const char *text)
{
	char *lines = read_as(text, SA_JSON_WHOLE);

	if (lines[0] != '\0')
		fail_msg("%s: %s", text, lines);
	free(lines);
	return &item.record;
}

static void an_sa_is_read_whole(void **state)
{
	const struct sa_record *r = good(
		"{\"spi\":\"0xc0ffee01\",\"src\":\"2001:db8::*\",\"dst\":\"2001:db8::2\","
		"\"encryption\":\"aes-cbc\",\"encryption_key\":\"0x" K32 "\","
		"\"authentication\":\"hmac-sha256-128\",\"authentication_key\":\"" K32 "\","
		"\"icv_bytes\":16,\"mode\":\"transport\",\"esn\":true,\"connection\":\"Paris 1\"}");

	(void)state;
	assert_int_equal(r->spi, 0xc0ffee01);
	assert_int_equal(r->spi_mask, UINT32_MAX);
	assert_int_equal(r->src.family, 6);
	assert_int_equal(r->src.mask[15], 0xf0);
	assert_true(sa_address_is_whole(&r->dst));
	assert_int_equal(r->cipher, ESP_AES_CBC);
	assert_int_equal(r->auth, ESP_AUTH_HMAC_SHA256_128);
	assert_int_equal(r->icv_bytes, 16);
	assert_int_equal(r->enc_key_bytes, 32);
	assert_int_equal(r->enc_key[31], 0xff);
	assert_int_equal(r->auth_key_bytes, 32);
	assert_int_equal(r->mode, SA_MODE_TRANSPORT);
	assert_int_equal(r->flags, SA_ESN);
	assert_string_equal(item.connection, "Paris 1");
	assert_string_equal(item.algorithm, "aes-cbc, hmac-sha256-128");
}

static void what_is_left_out_has_a_default(void **state)
{
	const struct sa_record *r = good(GCM(""));

	(void)state;
	assert_int_equal(r->src.family, 0);
	assert_int_equal(r->icv_bytes, 16);
	assert_int_equal(r->mode, SA_MODE_ANY);
	assert_int_equal(r->flags, 0);
	assert_string_equal(item.connection, "");
	assert_int_equal(good("{\"spi\":4660,\"dst\":\"*\",\"encryption\":\"null\"}")->spi, 0x1234);
	assert_int_equal(item.record.dst.family, 0);
	assert_int_equal(item.record.cipher, ESP_NULL);
	assert_int_equal(item.record.icv_bytes, 0);
}

static void lengths_of_icvs_come_from_names_or_icv_bytes(void **state)
{
	(void)state;
	assert_int_equal(good(GCM(",\"icv_bytes\":8"))->icv_bytes, 8);
	assert_int_equal(good(GCM(",\"icv_bytes\":12,\"authentication\":\"none\""))->icv_bytes, 12);
	assert_int_equal(good(SA(",\"encryption\":\"AES-GCM with 8 octet ICV [RFC4106]\","
				 "\"encryption_key\":\"" K20 "\""))
				 ->icv_bytes,
			 8);
	assert_int_equal(good(SA(",\"encryption\":\"AES-CCM with 12 octet ICV [RFC4309]\","
				 "\"encryption_key\":\"" K16 "010203\",\"icv_bytes\":12"))
				 ->icv_bytes,
			 12);
	assert_int_equal(good(CBC(",\"authentication\":\"unchecked\",\"icv_bytes\":24"))->icv_bytes,
			 24);
	assert_int_equal(item.record.auth, ESP_AUTH_UNCHECKED);
	assert_int_equal(
		good(CBC(",\"authentication\":\"ANY 96 bit authentication [no checking]\""))
			->icv_bytes,
		12);
	assert_int_equal(good(SA(",\"encryption\":\"chacha20-poly1305\",\"encryption_key\":\"" K32
				 "01020304\""))
				 ->cipher,
			 ESP_CHACHA20_POLY1305);
	assert_int_equal(good(SA(",\"encryption\":\"DES-CBC [RFC2405]\",\"encryption_key\":\""
				 "0011223344556677\""))
				 ->cipher,
			 ESP_UNSUPPORTED);
	assert_int_equal(item.record.enc_key_bytes, 0);
}

struct wrong {
	int number;
	const char *text, *fault; // how its line begins
};

static const struct wrong wrongs[] = {
	{1, "{\"spi\":", "/spi: line 1, column 8: the text ends"},
	{2, "[]", "an array: must be an object"},
	{3, "{}", "/spi: missing"},
	{4, "{\"spi\":1,\"encryption\":\"null\"}", "/dst: missing"},
	{5, SA(""), "/encryption: missing"},
	{6, GCM(",\"encrypton_key\":\"" K20 "\""),
	 "/encrypton_key: unknown key; the nearest known one is \"encryption_key\""},
	{7, "{\"spi\":\"12x\",\"dst\":\"*\",\"encryption\":\"null\"}", "/spi: \"12x\": an SPI is"},
	{8, "{\"spi\":4294967296,\"dst\":\"*\",\"encryption\":\"null\"}",
	 "/spi: 4294967296: must be an integer, 0 to 4294967295"},
	{9, "{\"spi\":1,\"dst\":\"1.2.3\",\"encryption\":\"null\"}",
	 "/dst: \"1.2.3\": an IPv4 address has four parts"},
	{10, "{\"spi\":1,\"dst\":7,\"encryption\":\"null\"}", "/dst: 7: must be a string"},
	{11, "{\"spi\":1,\"dst\":\"1.2.3.4\",\"src\":\"::1\",\"encryption\":\"null\"}",
	 "/src: is IPv6, and dst is IPv4"},
	{12, SA(",\"encryption\":\"aes-gmc\""),
	 "/encryption: is not known; the nearest known ones are \"aes-gmac\""},
	{13, SA(",\"encryption\":7"), "/encryption: must be the name of an algorithm"},
	{14, SA(",\"encryption\":\"unsupported\""), "/encryption: is not known"},
	{15, SA(",\"encryption\":\"aes-gcm\""),
	 "/encryption_key: missing; aes-gcm takes 20, 28 or 36 bytes, the salt of 4 included"},
	{16, SA(",\"encryption\":\"aes-gcm\",\"encryption_key\":\"" K16 "\""),
	 "/encryption_key: has 16 bytes; aes-gcm takes 20, 28 or 36 bytes"},
	{17, SA(",\"encryption\":\"aes-gcm\",\"encryption_key\":\"" K16 "0\""),
	 "/encryption_key: has 33 hexadecimal digits; two make a byte"},
	{18, SA(",\"encryption\":\"aes-gcm\",\"encryption_key\":\"" K16 "zz\""),
	 "/encryption_key: must be a string of hexadecimal digits"},
	{19, SA(",\"encryption\":\"aes-gcm\",\"encryption_key\":7"),
	 "/encryption_key: must be a string of hexadecimal digits"},
	{20, SA(",\"encryption\":\"null\",\"encryption_key\":\"00\""),
	 "/encryption_key: null takes no key"},
	{21, GCM(",\"authentication\":\"hmac-sha1-96\",\"authentication_key\":\"" K20 "\""),
	 "/authentication: aes-gcm has an ICV of its own"},
	{22, GCM(",\"icv_bytes\":10"), "/icv_bytes: 10 does not fit"},
	{23, GCM(",\"icv_bytes\":0"), "/icv_bytes: 0: must be an integer, 1 to 32"},
	{24,
	 SA(",\"encryption\":\"AES-GCM with 8 octet ICV [RFC4106]\",\"encryption_key\":\"" K20
	    "\",\"icv_bytes\":16"),
	 "/icv_bytes: 16 does not fit: the ICV of AES-GCM with 8 octet ICV [RFC4106] has 8 bytes"},
	{25, CBC(",\"authentication\":\"hmac-sha1-96\""),
	 "/authentication_key: missing; hmac-sha1-96 takes 20 bytes"},
	{26, CBC(",\"authentication\":\"hmac-sha1-96\",\"authentication_key\":\"" K16 "\""),
	 "/authentication_key: has 16 bytes; hmac-sha1-96 takes 20 bytes"},
	{27,
	 CBC(",\"authentication\":\"hmac-sha1-96\",\"authentication_key\":\"" K20
	     "\",\"icv_bytes\":16"),
	 "/icv_bytes: 16 does not fit: the ICV of hmac-sha1-96 has 12 bytes"},
	{28, CBC(",\"authentication\":\"sha1\""), "/authentication: is not known"},
	{29, CBC(",\"authentication\":\"unchecked\""), "/icv_bytes: missing"},
	{30, CBC(",\"authentication_key\":\"" K20 "\""),
	 "/authentication_key: there is no authentication that takes a key"},
	{31, CBC(",\"icv_bytes\":12"), "/icv_bytes: 12 does not fit"},
	{32, GCM(",\"mode\":\"tunel\""), "/mode: \"tunel\": must be \"tunnel\""},
	{33, GCM(",\"esn\":1"), "/esn: 1: must be true or false"},
	{34, GCM(",\"connection\":\"\""), "/connection: \"\": must not be empty"},
	{35, GCM(",\"connection\":\"a\\u001b\""), "/connection: "},
	{36, GCM("") "x", "line 1, column "},
	{37,
	 SA(",\"encryption\":\"aes-gcm\",\"encryption_key\":\"" K32 K32 K32 K32 K32 K32 K32 "\""),
	 "/encryption_key: has 224 bytes"},
};

static void faults_say_where_and_what_would_be_right(void **state)
{
	unsigned n_faults = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		const struct wrong *w = &wrongs[i];
		char *lines = read_as(w->text, SA_JSON_WHOLE);

		if (strncmp(lines, w->fault, strlen(w->fault)) != 0) {
			print_error("row %d, not \"%s\": %s\n", w->number, w->fault, lines);
			n_faults++;
		}
		free(lines);
	}
	assert_int_equal(n_faults, 0);
}

static void a_refused_one_leaves_the_item_as_it_was(void **state)
{
	char *lines;

	(void)state;
	(void)good(GCM(""));
	lines = read_as(GCM(",\"icv_bytes\":9"), SA_JSON_WHOLE);
	assert_string_not_equal(lines, "");
	assert_int_equal(item.record.icv_bytes, 16);
	free(lines);
}

static void a_name_has_no_more_than_names_an_sa(void **state)
{
	char *lines = read_as("{\"spi\":\"0x12\",\"dst\":\"::1\",\"src\":\"::2\"}", SA_JSON_NAME);

	(void)state;
	assert_string_equal(lines, "");
	assert_int_equal(item.record.spi, 0x12);
	assert_int_equal(item.record.src.value[15], 2);
	free(lines);
	lines = read_as(GCM(""), SA_JSON_NAME);
	assert_non_null(strstr(lines, "/encryption_key: unknown key"));
	free(lines);
	lines = read_as("{\"spi\":1}", SA_JSON_NAME);
	assert_non_null(strstr(lines, "/dst: missing"));
	free(lines);
}

/* Under every name, and of every wrong length. */
static void no_fault_shows_a_key(void **state)
{
	static const char *const names[] = {"spi",
					    "dst",
					    "src",
					    "encryption",
					    "encryption_key",
					    "icv_bytes",
					    "authentication",
					    "authentication_key",
					    "mode",
					    "esn"};
	static const char key[] =
		"c0ffee5ec2e7c0ffee5ec2e7c0ffee5ec2e7c0ffee5ec2e7c0ffee5ec2e7c0ffee5ec2e7"
		"c0ffee5ec2e7zz";

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		for (size_t len = strcmp(names[i], "connection") == 0 ? NAME_MAX_BYTES : 13;
		     len < sizeof(key); len++) {
			char text[512], *lines;

			(void)snprintf(text, sizeof(text), "{\"%s\":\"%.*s\"}", names[i], (int)len,
				       key);
			lines = read_as(text, SA_JSON_WHOLE);
			if (strstr(lines, "ffee") != NULL)
				fail_msg("%s: %s", text, lines);
			free(lines);
		}
	}
}

static void strings_of_a_tree_are_wiped(void **state)
{
	struct cJSON *tree = cJSON_Parse(GCM(",\"x\":[{\"y\":\"secret\"}]"));
	char *text;

	(void)state;
	assert_non_null(tree);
	sa_json_wipe(tree);
	text = cJSON_PrintUnformatted(tree);
	assert_non_null(text);
	assert_null(strstr(text, "0011"));
	assert_null(strstr(text, "secret"));
	cJSON_free(text);
	cJSON_Delete(tree);
}

static void an_sa_is_written_without_its_keys(void **state)
{
	struct cJSON *object;
	char *text;

	(void)state;
	(void)good(SA(",\"src\":\"*\",\"encryption\":\"aes-cbc\",\"encryption_key\":\"" K16
		      "\",\"authentication\":\"hmac-sha256-128\",\"authentication_key\":\"" K32
		      "\",\"mode\":\"tunnel\",\"connection\":\"lyon\""));
	item.line = 7;
	item.mark = 3;
	item.remote = (struct set_subnet){.addr = {10, 1}, .prefix_len = 16, .family = 4};
	object = sa_json_write(&item, SA_FROM_FILE);
	text = cJSON_PrintUnformatted(object);
	assert_string_equal(text,
			    "{\"spi\":\"0x00001234\",\"src\":\"*\",\"dst\":\"192.0.2.1\","
			    "\"algorithm\":\"aes-cbc, hmac-sha256-128\",\"mode\":\"tunnel\","
			    "\"connection\":\"lyon\",\"origin\":\"file\",\"esn\":false,"
			    "\"icv_bytes\":16,\"line\":7,\"mark\":3,\"remote\":\"10.1.0.0/16\"}");
	cJSON_free(text);
	cJSON_Delete(object);
	(void)good(GCM(",\"esn\":true"));
	object = sa_json_write(&item, SA_FROM_API);
	text = cJSON_PrintUnformatted(object);
	assert_non_null(strstr(text, "\"connection\":null,\"origin\":\"api\",\"esn\":true"));
	cJSON_free(text);
	cJSON_Delete(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_sa_is_read_whole),
		cmocka_unit_test(what_is_left_out_has_a_default),
		cmocka_unit_test(lengths_of_icvs_come_from_names_or_icv_bytes),
		cmocka_unit_test(faults_say_where_and_what_would_be_right),
		cmocka_unit_test(a_refused_one_leaves_the_item_as_it_was),
		cmocka_unit_test(a_name_has_no_more_than_names_an_sa),
		cmocka_unit_test(no_fault_shows_a_key),
		cmocka_unit_test(strings_of_a_tree_are_wiped),
		cmocka_unit_test(an_sa_is_written_without_its_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
