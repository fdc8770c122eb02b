/* test_esp_sa_file.c - files of SAs: every right form, every wrong one with its line and column, hostile ones.
 *
 * That the right forms mean what Wireshark means by them is oracle_esp_sa.py's to say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/esp_names.h"
#include "control/esp_sa_file.h"
#include "control/secret.h"

#define K16   "0x00112233445566778899aabbccddeeff"
#define K20   K16 "01020304"
#define K24   K16 "0011223344556677"
#define K28   K24 "01020304"
#define K32   K16 "00112233445566778899aabbccddeeff"
#define K36   K32 "01020304"
#define K48   K32 "00112233445566778899aabbccddeeff"
#define K64   K48 "00112233445566778899aabbccddeeff"
#define ENDS  "\"IPv4\",\"192.0.2.1\",\"198.51.100.7\",\"0x1234\","
#define GCM16 "\"AES-GCM with 16 octet ICV [RFC4106]\",\"" K20 "\",\"NULL\",\"\""
#define GOOD  ENDS GCM16

static struct sa_list list;
static struct error err;

static int parse(const char *text)
{
	err.text[0] = '\0';
	return esp_sa_parse(text, strlen(text), "keys", &list, &err);
}

/* The one SA of a text that is right. */
static const struct sa_item *one(const char *text)
{
	sa_list_fini(&list);
	if (parse(text) != 0)
		fail_msg("refused: %s: %s", text, err.text);
	assert_int_equal(list.n, 1);
	return list.items;
}

static int empty(void **state)
{
	(void)state;
	sa_list_fini(&list);
	return 0;
}

static void a_line_becomes_one_sa(void **state)
{
	static const uint8_t src[16] = {192, 0, 2, 1}, dst[16] = {198, 51, 100, 7};
	const struct sa_item *item = one(GOOD "\n");
	const struct sa_record *r = &item->record;

	(void)state;
	assert_int_equal(r->spi, 0x1234);
	assert_int_equal(r->spi_mask, UINT32_MAX);
	assert_memory_equal(r->src.value, src, 16);
	assert_memory_equal(r->dst.value, dst, 16);
	assert_true(sa_address_is_whole(&r->src) && sa_address_is_whole(&r->dst));
	assert_int_equal(r->cipher, ESP_AES_GCM);
	assert_int_equal(r->auth, ESP_AUTH_NONE);
	assert_int_equal(r->icv_bytes, 16);
	assert_int_equal(r->enc_key_bytes, 20);
	assert_int_equal(r->enc_key[1], 0x11);
	assert_int_equal(r->enc_key[19], 4);
	assert_int_equal(r->auth_key_bytes, 0);
	assert_int_equal(r->mode, SA_MODE_ANY);
	assert_int_equal(r->flags, 0);
	assert_int_equal(item->line, 1);
	assert_string_equal(item->connection, "");
	assert_string_equal(item->algorithm, "AES-GCM with 16 octet ICV");
}

/* ---- Algorithms ---- */

struct algorithm {
	int number;
	const char *cipher, *enc_key, *auth, *auth_key;
	uint8_t id, auth_id, icv_bytes, enc_key_bytes, auth_key_bytes;
};

#define SHA256	  "HMAC-SHA-256-128 [RFC4868]"
#define ANY(bits) "ANY " bits " bit authentication [no checking]"

static const struct algorithm algorithms[] = {
	{1, "NULL", "", SHA256, K32, ESP_NULL, ESP_AUTH_HMAC_SHA256_128, 16, 0, 32},
	{2, "NULL", "", "NULL", "", ESP_NULL, ESP_AUTH_NONE, 0, 0, 0},
	{3, "NULL", "left over", ANY("96"), "left over", ESP_NULL, ESP_AUTH_UNCHECKED, 12, 0, 0},
	{4, "TripleDES-CBC [RFC2451]", K24, "HMAC-SHA-1-96 [RFC2404]", K20, ESP_3DES_CBC,
	 ESP_AUTH_HMAC_SHA1_96, 12, 24, 20},
	{5, "AES-CBC [RFC3602]", K16, "HMAC-MD5-96 [RFC2403]", K16, ESP_AES_CBC,
	 ESP_AUTH_HMAC_MD5_96, 12, 16, 16},
	{6, "AES-CBC [RFC3602]", K24, "HMAC-SHA-384-192 [RFC4868]", K48, ESP_AES_CBC,
	 ESP_AUTH_HMAC_SHA384_192, 24, 24, 48},
	{7, "AES-CBC [RFC3602]", K32, "HMAC-SHA-512-256 [RFC4868]", K64, ESP_AES_CBC,
	 ESP_AUTH_HMAC_SHA512_256, 32, 32, 64},
	{8, "AES-CBC [RFC3602]", K32, "HMAC-SHA-256-96 [draft-ietf-ipsec-ciph-sha-256-00]", K32,
	 ESP_AES_CBC, ESP_AUTH_HMAC_SHA256_96, 12, 32, 32},
	{9, "AES-CTR [RFC3686]", K20, "MAC-RIPEMD-160-96 [RFC2857]", K20, ESP_AES_CTR,
	 ESP_AUTH_UNCHECKED, 12, 20, 0},
	{10, "AES-CTR [RFC3686]", K36, "AES-XCBC-MAC-96 [RFC3566]", K16, ESP_AES_CTR,
	 ESP_AUTH_AES_XCBC_96, 12, 36, 16},
	{11, "AES-GCM with 8 octet ICV [RFC4106]", K20, "NULL", "", ESP_AES_GCM, ESP_AUTH_NONE, 8,
	 20, 0},
	{12, "AES-GCM with 12 octet ICV [RFC4106]", K28, "NULL", "", ESP_AES_GCM, ESP_AUTH_NONE, 12,
	 28, 0},
	{13, "AES-GCM with 16 octet ICV [RFC4106]", K36, "NULL", "", ESP_AES_GCM, ESP_AUTH_NONE, 16,
	 36, 0},
	{14, "AES-GCM [RFC4106]", K36, "NULL", "", ESP_AES_GCM, ESP_AUTH_NONE, 16, 36, 0},
	{15, "AES-GCM [RFC4106]", K36, ANY("64"), "", ESP_AES_GCM, ESP_AUTH_NONE, 8, 36, 0},
	{16, "AES-GCM [RFC4106]", K36, ANY("96"), "", ESP_AES_GCM, ESP_AUTH_NONE, 12, 36, 0},
	{17, "AES-GCM [RFC4106]", K36, ANY("128"), "", ESP_AES_GCM, ESP_AUTH_NONE, 16, 36, 0},
	{18, "AES-CCM with 8 octet ICV [RFC4309]", K16 "010203", "NULL", "", ESP_AES_CCM,
	 ESP_AUTH_NONE, 8, 19, 0},
	{19, "AES-CCM with 12 octet ICV [RFC4309]", K24 "010203", "NULL", "", ESP_AES_CCM,
	 ESP_AUTH_NONE, 12, 27, 0},
	{20, "AES-CCM with 16 octet ICV [RFC4309]", K32 "010203", "NULL", "", ESP_AES_CCM,
	 ESP_AUTH_NONE, 16, 35, 0},
	{21, "AES-GMAC [RFC4543]", K20, "NULL", "", ESP_AES_GMAC, ESP_AUTH_NONE, 16, 20, 0},
	{22, "ChaCha20-Poly1305 [RFC7634]", K36, "NULL", "", ESP_CHACHA20_POLY1305, ESP_AUTH_NONE,
	 16, 36, 0},
	{23, "ChaCha20 with Poly1305 [RFC7634]", K36, "NULL", "", ESP_CHACHA20_POLY1305,
	 ESP_AUTH_NONE, 16, 36, 0},
	{24, "AES-CBC [RFC3602]", K16, ANY("64"), "", ESP_AES_CBC, ESP_AUTH_UNCHECKED, 8, 16, 0},
	{25, "AES-CBC [RFC3602]", K16, ANY("128"), "", ESP_AES_CBC, ESP_AUTH_UNCHECKED, 16, 16, 0},
	{26, "AES-CBC [RFC3602]", K16, ANY("192"), "", ESP_AES_CBC, ESP_AUTH_UNCHECKED, 24, 16, 0},
	{27, "AES-CBC [RFC3602]", K16, ANY("256"), "", ESP_AES_CBC, ESP_AUTH_UNCHECKED, 32, 16, 0},
	// No key to check with: how long the ICV is is still known.
	{28, "AES-CBC [RFC3602]", K16, SHA256, "", ESP_AES_CBC, ESP_AUTH_UNCHECKED, 16, 16, 0},
	{29, "AES-CBC [RFC3602]", K16, SHA256, "0x", ESP_AES_CBC, ESP_AUTH_UNCHECKED, 16, 16, 0},
	// Known to Wireshark, not to us: no fault, and no keys.
	{30, "DES-CBC [RFC2405]", "0x0011223344556677", "NULL", "", ESP_UNSUPPORTED, ESP_AUTH_NONE,
	 0, 0, 0},
	{31, "BLOWFISH-CBC [RFC2451]", K16, SHA256, K32, ESP_UNSUPPORTED, ESP_AUTH_NONE, 0, 0, 0},
	{32, "CAST5-CBC [RFC2144]", K16, "NULL", "", ESP_UNSUPPORTED, ESP_AUTH_NONE, 0, 0, 0},
	{33, "TWOFISH-CBC", K16, "NULL", "", ESP_UNSUPPORTED, ESP_AUTH_NONE, 0, 0, 0},
	{34, "AES-GCM with IIV and 16 octet ICV [RFC4106 & RFC8750]", K20, "NULL", "",
	 ESP_UNSUPPORTED, ESP_AUTH_NONE, 0, 0, 0},
	{35, "ChaCha20 with Poly1305 and IIV [RFC7634 & RFC8750]", K36, "NULL", "", ESP_UNSUPPORTED,
	 ESP_AUTH_NONE, 0, 0, 0},
};

static void each_algorithm_is_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
		const struct algorithm *a = &algorithms[i];
		const struct sa_record *r;
		char line[1024];

		(void)snprintf(line, sizeof(line), ENDS "\"%s\",\"%s\",\"%s\",\"%s\"", a->cipher,
			       a->enc_key, a->auth, a->auth_key);
		r = &one(line)->record;
		if (r->cipher != a->id || r->auth != a->auth_id || r->icv_bytes != a->icv_bytes ||
		    r->enc_key_bytes != a->enc_key_bytes || r->auth_key_bytes != a->auth_key_bytes)
			fail_msg("row %d: cipher %d auth %d icv %d keys %d %d", a->number,
				 r->cipher, r->auth, r->icv_bytes, r->enc_key_bytes,
				 r->auth_key_bytes);
		if (r->cipher != ESP_UNSUPPORTED)
			assert_true(esp_takes_icv(r->cipher, r->auth, r->icv_bytes));
	}
}

static void every_name_is_in_the_table_above(void **state)
{
	(void)state;
	for (unsigned i = 0; esp_cipher_name_at(i) != NULL; i++) {
		bool is_there = false;

		for (size_t j = 0; j < sizeof(algorithms) / sizeof(algorithms[0]); j++)
			is_there |= strcmp(algorithms[j].cipher, esp_cipher_name_at(i)->name) == 0;
		if (!is_there)
			fail_msg("no row has %s", esp_cipher_name_at(i)->name);
	}
	for (unsigned i = 0; esp_auth_name_at(i) != NULL; i++) {
		bool is_there = false;

		for (size_t j = 0; j < sizeof(algorithms) / sizeof(algorithms[0]); j++)
			is_there |= strcmp(algorithms[j].auth, esp_auth_name_at(i)->name) == 0;
		if (!is_there)
			fail_msg("no row has %s", esp_auth_name_at(i)->name);
	}
}

static void keys_are_hexadecimal_or_text(void **state)
{
	const struct sa_record *r;

	(void)state;
	r = &one(ENDS "\"AES-CBC [RFC3602]\",\"sixteen letters!\",\"NULL\",\"\"")->record;
	assert_memory_equal(r->enc_key, "sixteen letters!", 16);
	r = &one(ENDS "\"AES-CBC [RFC3602]\",\"0X00112233445566778899AABBCCDDEEFF\",\"NULL\",")
		     ->record;
	assert_int_equal(r->enc_key[15], 0xff);
	assert_int_equal(r->enc_key[10], 0xaa);
	// An odd number of digits: the first stands alone, as Wireshark has it.
	r = &one(ENDS "\"AES-CBC [RFC3602]\",\"0x123456789abcdef0123456789abcdef\",\"NULL\",\"\"")
		     ->record;
	assert_int_equal(r->enc_key[0], 1);
	assert_int_equal(r->enc_key[1], 0x23);
	assert_int_equal(r->enc_key[15], 0xef);
	r = &one(ENDS "\"AES-CBC [RFC3602]\",\"\\x22quote,\\\"\\\\slash##\",\"NULL\",\"\"")->record;
	assert_memory_equal(r->enc_key, "\"quote,\"\\slash##", 16);
}

/* ---- Lines ---- */

static void blank_lines_comments_and_line_ends_are_skipped(void **state)
{
	static const char *const texts[] = {
		GOOD,
		GOOD "\n",
		GOOD "\r\n",
		GOOD "\r",
		GOOD "  \t\n\n\n",
		"# This file is automatically generated, DO NOT MODIFY.\n" GOOD "\n",
		"\n  # \xff\xfe \" unended\r\n\t\r\n" GOOD "\r\n# end",
		"\xef\xbb\xbf" GOOD "\n",
		"  " GOOD,
		"# gatecap is fine\n" GOOD,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(one(texts[i])->record.spi, 0x1234);
}

static void fields_may_have_blanks_around_them_and_no_quotes(void **state)
{
	static const char *const texts[] = {
		" \"IPv4\" , \"192.0.2.1\"\t,\"198.51.100.7\" ,\"0x1234\", " GCM16,
		"49507634,3139322e302e322e31,3139382e35312e3130302e37,307831323334," GCM16,
		"\"IPv4\",\"\\x31\\0712.0.2.1\",\"198.51.100.7\",\"\\060x1234\"," GCM16,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(one(texts[i])->record.spi, 0x1234);
		assert_int_equal(list.items[0].record.src.value[3], 1);
	}
	assert_int_equal(
		one(ENDS "\"AES-CBC [RFC3602]\",\"" K16 "\",\"NULL\",")->record.auth_key_bytes, 0);
}

static void later_versions_say_how_long_sequence_numbers_are(void **state)
{
	(void)state;
	assert_int_equal(one(GOOD ",\"32-bit\"")->record.flags, 0);
	assert_int_equal(one(GOOD ",\"64-bit\"")->record.flags, SA_ESN);
	assert_int_equal(one(GOOD ",\"64-bit\",\"7\"")->record.esn_high, 7);
	assert_int_equal(one(GOOD ",\"64-bit\",\"0xffffffff\"")->record.esn_high, UINT32_MAX);
	assert_int_equal(one(GOOD ",,")->record.flags, 0);
}

static void order_and_line_numbers_are_kept(void **state)
{
	(void)state;
	assert_int_equal(parse(GOOD "\n#\n" GOOD "\r\n\r\n" GOOD), 0);
	assert_int_equal(list.n, 3);
	assert_int_equal(list.items[0].line, 1);
	assert_int_equal(list.items[1].line, 3);
	assert_int_equal(list.items[2].line, 5);
}

static void an_empty_file_is_no_sas(void **state)
{
	(void)state;
	assert_int_equal(parse(""), 0);
	assert_int_equal(list.n, 0);
	assert_int_equal(parse("\r\n# nothing"), 0);
	assert_int_equal(list.n, 0);
}

/* ---- Directives ---- */

static void a_directive_is_of_the_next_sa_only(void **state)
{
	(void)state;
	assert_int_equal(parse("# gatecap: connection=\"Paris 1\" mode=tunnel esn=yes\n"
			       "# another comment\n\n" GOOD "\n" GOOD "\n"),
			 0);
	assert_string_equal(list.items[0].connection, "Paris 1");
	assert_int_equal(list.items[0].record.mode, SA_MODE_TUNNEL);
	assert_int_equal(list.items[0].record.flags, SA_ESN);
	assert_string_equal(list.items[1].connection, "");
	assert_int_equal(list.items[1].record.mode, SA_MODE_ANY);
	assert_int_equal(list.items[1].record.flags, 0);
}

static void directives_may_be_on_several_lines(void **state)
{
	const struct sa_item *item =
		one("#gatecap: connection=lyon\n  #\tgatecap:mode=transport\r\n"
		    "# gatecap: esn=no\n" GOOD ",\"64-bit\"");

	(void)state;
	assert_string_equal(item->connection, "lyon");
	assert_int_equal(item->record.mode, SA_MODE_TRANSPORT);
	assert_int_equal(item->record.flags, 0);
}

static void an_sa_in_a_directive_is_read_by_us_alone(void **state)
{
	(void)state;
	assert_int_equal(parse("# gatecap: connection=a\n# gatecap: " GOOD "\r\n" GOOD "\n"), 0);
	assert_int_equal(list.n, 2);
	assert_string_equal(list.items[0].connection, "a");
	assert_int_equal(list.items[0].line, 2);
	assert_string_equal(list.items[1].connection, "");
	assert_int_equal(list.items[1].line, 3);
}

/* ---- What is refused ---- */

struct wrong {
	int number;
	const char *text;
	unsigned line, column;
	const char *part; // of the sentence
};

#define LINE(src, dst, spi) "\"IPv4\",\"" src "\",\"" dst "\",\"" spi "\"," GCM16
#define LINE6(src)	    "\"IPv6\",\"" src "\",\"*\",\"1\"," GCM16
#define CBC(key, auth, auth_key) \
	ENDS "\"AES-CBC [RFC3602]\",\"" key "\",\"" auth "\",\"" auth_key "\""

static const struct wrong wrongs[] = {
	{1, "\"IPv4\"\n", 1, 1, "has 1 fields, and 8 are needed"},
	{2, GOOD "\n" ENDS "\"NULL\",\"\",\"NULL\"", 2, 1, "has 7 fields"},
	{3, GOOD " # comment", 1, sizeof(GOOD) + 1, "comments have lines of their own"},
	{4, GOOD ",,,\n", 1, sizeof(GOOD) + 3, "more than ten fields"},
	{5, "\n\n  \"IPv4\",\"1.2.3.4\n", 3, 10, "does not end with one on its line"},
	{6, "\"ipv4\",\"*\",\"*\",\"1\"," GCM16, 1, 1, "protocol \"ipv4\" is neither"},
	{7, "IPv4,", 1, 1, "pairs of hexadecimal digits"},
	{8, "495,", 1, 3, "pairs of hexadecimal digits"},
	{9, LINE("", "*", "1"), 1, 9, "source address \"\" is not understood: it is empty"},
	{10, LINE("1.2.3", "*", "1"), 1, 14, "has four parts"},
	{11, LINE("1.2.3.256", "*", "1"), 1, 15, "is 0-255 or *"},
	{12, LINE("1.2.3.4.5", "*", "1"), 1, 16, "ends before this"},
	{13, LINE("1.2*.3.4", "*", "1"), 1, 12, "has four parts"},
	{14, LINE("*", "1.2.3.4/33", "1"), 1, 21, "destination address \"1.2.3.4/33\""},
	{15, LINE("1.2.3.4/", "*", "1"), 1, 17, "a length of 0-32"},
	{16, LINE("2001:db8::1", "*", "1"), 1, 9, "it is an IPv6 address"},
	{17, LINE6("1.2.3.4"), 1, 9, "it is an IPv4 address"},
	{18, LINE6("1::2::3"), 1, 13, ":: may stand there once"},
	{19, LINE6("1:2:3"), 1, 14, "has eight groups"},
	{20, LINE6("1:2:3:4:5:6:7:8:9"), 1, 24, "has eight groups"},
	{21, LINE6("12345::"), 1, 13, "one to four hexadecimal"},
	{22, LINE6("fe80::1%eth0"), 1, 16, "one to four hexadecimal"},
	{23, LINE6("::/129"), 1, 12, "a length of 0-128"},
	{24, LINE("*", "*", ""), 1, 17, "the SPI \"\" is not understood"},
	{25, LINE("*", "*", "12x"), 1, 19, "an SPI is a number"},
	{26, LINE("*", "*", "08"), 1, 18, "octal"},
	{27, LINE("*", "*", "0x100000000"), 1, 27, "32 bits"},
	{28, LINE("*", "*", "0x12*"), 1, 17, "all of its eight digits"},
	{29, LINE("*", "*", "0x1234567g"), 1, 26, "an SPI is a number"},
	{30, ENDS "\"AES-CBC\",\"\",\"NULL\",\"\"", 1, 44,
	 "the encryption \"AES-CBC\" is not known; the nearest known one is \"AES-CBC [RFC3602]\""},
	{31, CBC(K16, "HMAC-SHA-256", K32), 1, 101,
	 "the authentication \"HMAC-SHA-256\" is not known; the nearest known one is \"HMAC-"},
	{32,
	 CBC("0x"
	     "00",
	     "NULL", ""),
	 1, 64, "has 1 bytes; AES-CBC [RFC3602] takes 16, 24 or 32 bytes."},
	{33, ENDS "\"AES-GCM [RFC4106]\",\"" K16 "\",\"NULL\",\"\"", 1, 64,
	 "has 16 bytes; AES-GCM [RFC4106] takes 20, 28 or 36 bytes, the salt of 4 included."},
	{34, ENDS "\"TripleDES-CBC [RFC2451]\",\"" K16 "\",\"NULL\",\"\"", 1, 70,
	 "takes 24 bytes."},
	{35, CBC(K16, SHA256, K20), 1, 130,
	 "the authentication key has 20 bytes; HMAC-SHA-256-128 [RFC4868] takes 32 bytes."},
	{36, CBC("0x0011223344556677zz", "NULL", ""), 1, 83, "no hexadecimal digit"},
	{37, CBC("", "NULL", ""), 1, 64, "has 0 bytes"},
	{38, ENDS "\"AES-GCM with 8 octet ICV [RFC4106]\",\"" K20 "\",\"" SHA256 "\",\"\"", 1, 126,
	 "an ICV of its own"},
	{39, ENDS "\"AES-GCM [RFC4106]\",\"" K20 "\",\"" ANY("192") "\",\"\"", 1, 109,
	 "an ICV of its own"},
	{40, GOOD ",\"33-bit\"", 1, sizeof(GOOD) + 1, "neither 32-bit nor 64-bit"},
	{41, GOOD ",\"64-bit\",\"x\"", 1, sizeof(GOOD) + 10, "no number of 32 bits"},
	{42, GOOD ",\"64-bit\",\"*\"", 1, sizeof(GOOD) + 10, "no number of 32 bits"},
	{43, CBC("\\x00123456789abcdef", "NULL", ""), 1, 65, "NUL byte"},
	{44, "# gatecap: conection=x\n" GOOD, 1, 12, "the nearest it has is \"connection\""},
	{45, "# gatecap: mode=tunel\n" GOOD, 1, 12, "none of tunnel, transport and any"},
	{46, "# gatecap: esn=maybe\n" GOOD, 1, 12, "esn is yes or no"},
	{47, "# gatecap: connection=a  connection=b\n" GOOD, 1, 26, "given twice"},
	{48, "# gatecap: connection=\n" GOOD, 1, 12, "has no name"},
	{49, "# gatecap: connection=\"a\n" GOOD, 1, 12, "does not end on its line"},
	{50, "# gatecap: connection=\"a\"b\n" GOOD, 1, 12, "a blank is expected"},
	{51, "# gatecap:\n" GOOD, 1, 11, "says nothing"},
	{52, "# gatecap: tunnel\n" GOOD, 1, 12, "not followed by = and a value"},
	{53, GOOD "\n#gatecap: mode=tunnel\n# end\n", 2, 1, "no SA follows"},
	{54, "# gatecap: connection=\x1b[2J\n" GOOD, 1, 12, "control characters"},
	{55, "# gatecap: connection=\xff\n" GOOD, 1, 12, "no UTF-8"},
	{56, "# gatecap: \"IPv4\",\"1\n", 1, 19, "does not end with one on its line"},
	{57, "# gatecap: \"IPv4\",\"1\"\n", 1, 1, "has 2 fields"},
	{58, LINE("\x1b[2J\xff", "*", "1"), 1, 9, "\"\\x1b[2J\\xff\""},
	{59, "x\n", 1, 1, "pairs of hexadecimal digits"},
	{60, "\x01", 1, 1, "a comma or the end of the line is expected"},
	{61, GOOD "\r" GOOD, 1, sizeof(GOOD), "a comma or the end"},
};

static bool is_refused_as(const struct wrong *w)
{
	char at[64];

	(void)snprintf(at, sizeof(at), "keys: line %u, column %u: ", w->line, w->column);
	if (parse(w->text) != -EINVAL || list.n != 0 || list.items != NULL) {
		print_error("row %d was accepted\n", w->number);
		return false;
	}
	if (strncmp(err.text, at, strlen(at)) == 0 && strstr(err.text, w->part) != NULL &&
	    err.text[strlen(err.text) - 1] == '.')
		return true;
	print_error("row %d, not \"%s...%s\": %s\n", w->number, at, w->part, err.text);
	return false;
}

static void what_is_wrong_is_refused_with_line_and_column(void **state)
{
	unsigned n_faults = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
		n_faults += !is_refused_as(&wrongs[i]);
	assert_int_equal(n_faults, 0);
}

static void one_wrong_line_refuses_all(void **state)
{
	(void)state;
	assert_int_equal(parse(GOOD "\n" GOOD "\n" LINE("*", "*", "x") "\n" GOOD "\n"), -EINVAL);
	assert_int_equal(list.n, 0);
	assert_null(list.items);
}

/* Every byte of a line replaced by others: no sentence holds the key, in whichever form. */
static void no_sentence_shows_a_key(void **state)
{
	static const char secret[] = "c0ffee5ec2e7";
	static const char line[] =
		ENDS "\"AES-CBC [RFC3602]\",\"0xc0ffee5ec2e7c0ffee5ec2e7c0ffee5e\","
		     "\"" SHA256 "\",\"0xc0ffee5ec2e7c0ffee5ec2e7c0ffee5e"
		     "c0ffee5ec2e7c0ffee5ec2e7c0ffee5e\"";
	static const char bytes[] = "\"\\,x \n#\x01\xff*";
	char text[sizeof(line)];

	(void)state;
	for (size_t i = 0; i < sizeof(line) - 1; i++) {
		for (size_t j = 0; j < sizeof(bytes) - 1; j++) {
			memcpy(text, line, sizeof(line));
			text[i] = bytes[j];
			sa_list_fini(&list);
			if (parse(text) != 0 && (strstr(err.text, secret) != NULL ||
						 strstr(err.text, "ffee5e") != NULL))
				fail_msg("byte %zu as %02x: %s", i, bytes[j], err.text);
		}
	}
}

/* Columns that have changed places, or slipped. */
static void a_key_in_the_wrong_column_is_not_shown(void **state)
{
	static const char *const fields[] = {
		"IPv4", "192.0.2.1", "198.51.100.7", "1", "AES-CBC [RFC3602]", K16, SHA256, K32};
	static const char *const keys[] = {"0xc0ffee5ec2e7c0ffee5ec2e7c0ffee5e",
					   "c0ffee5ec2e7c0ffee5ec2e7c0ffee5e", "c0ffee5ec2e7:.*/!"};

	(void)state;
	for (unsigned i = 0; i < 10 * 3; i++) {
		char text[1024] = "";
		size_t at = 0;

		for (unsigned j = 0; j < 10; j++)
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%s\"%s\"",
					       j > 0 ? "," : "",
					       i / 3 == j ? keys[i % 3]
					       : j < 8	  ? fields[j]
							  : "");
		sa_list_fini(&list);
		if (parse(text) != 0 && strstr(err.text, "ffee") != NULL)
			fail_msg("%s: %s", text, err.text);
		(void)snprintf(text, sizeof(text), "# gatecap: %s%s\n" GOOD,
			       i / 3 == 0   ? "mode="
			       : i / 3 == 1 ? "esn="
			       : i / 3 == 2 ? ""
					    : "con=x ",
			       keys[i % 3]);
		if (parse(text) != -EINVAL || strstr(err.text, "ffee") != NULL)
			fail_msg("%s: %s", text, err.text);
	}
}

/* ---- Hostile input ---- */

static void bytes_are_not_text_and_do_no_harm(void **state)
{
	static const char nul[] = GOOD "\0\n", inside[] = "\"IP\0v4\"," GCM16;

	(void)state;
	assert_int_equal(esp_sa_parse(nul, sizeof(nul) - 1, "keys", &list, &err), -EINVAL);
	assert_int_equal(esp_sa_parse(inside, sizeof(inside) - 1, "keys", &list, &err), -EINVAL);
	assert_non_null(strstr(err.text, "column 4: the field holds a NUL byte"));
}

static void a_line_of_sixteen_megabytes_is_refused(void **state)
{
	static const char kinds[] = "a\",# \\\n\"";
	size_t bytes = ESP_SA_FILE_BYTES_MAX;
	char *text = malloc(bytes);

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < sizeof(kinds) - 1; i++) {
		memset(text, kinds[i], bytes);
		text[0] = '"';
		assert_int_equal(esp_sa_parse(text, bytes, "keys", &list, &err), -EINVAL);
	}
	memset(text, 'x', bytes);
	text[0] = '#';
	assert_int_equal(esp_sa_parse(text, bytes, "keys", &list, &err), 0);
	memcpy(text, "# gatecap: ", 11);
	assert_int_equal(esp_sa_parse(text, bytes, "keys", &list, &err), -EINVAL);
	free(text);
}

static void sixteen_thousand_sas_are_read_and_one_more_is_not(void **state)
{
	size_t room = (size_t)(SA_MAX + 1) * 256, at = 0;
	char *text = malloc(room);

	(void)state;
	assert_non_null(text);
	for (unsigned i = 0; i < SA_MAX; i++)
		at += (size_t)snprintf(text + at, room - at,
				       "\"IPv4\",\"*\",\"198.51.100.7\",\"%u\"," GCM16 "\n",
				       i + 256);
	assert_int_equal(esp_sa_parse(text, at, "keys", &list, &err), 0);
	assert_int_equal(list.n, SA_MAX);
	for (unsigned i = 0; i < SA_MAX; i++)
		assert_int_equal(list.items[i].record.spi, i + 256);
	sa_list_fini(&list);
	at += (size_t)snprintf(text + at, room - at, GOOD "\n");
	assert_int_equal(esp_sa_parse(text, at, "keys", &list, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 16385, column 1: the file has more than 16384 SAs"));
	free(text);
}

/* ---- Files ---- */

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fputs(text, file) >= 0, 1);
	assert_int_equal(fclose(file), 0);
}

static void files_are_read_whole_or_refused(void **state)
{
	char folder[] = "test_esp_sa.XXXXXX", path[64];

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/esp_sa", folder);
	assert_int_equal(esp_sa_load(path, &list, &err), -ENOENT);
	assert_non_null(strstr(err.text, "could not be opened: No such file"));
	assert_int_equal(esp_sa_load(folder, &list, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a regular file"));

	write_file(path, GOOD "\n" GOOD "\n");
	assert_int_equal(esp_sa_load(path, &list, &err), 0);
	assert_int_equal(list.n, 2);
	sa_list_fini(&list);

	write_file(path, GOOD "\n" GOOD "x\n");
	assert_int_equal(esp_sa_load(path, &list, &err), -EINVAL);
	assert_non_null(strstr(err.text, "/esp_sa: line 2, column "));

	assert_int_equal(truncate(path, 100000000), 0);
	assert_int_equal(esp_sa_load(path, &list, &err), -EFBIG);
	assert_non_null(strstr(err.text, "has 100000000 bytes"));
	assert_int_equal(list.n, 0);

	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(esp_sa_load(path, &list, &err), -EINVAL); // and does not wait for a writer
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(secret_unlocked(), 0);
}

/* Every esp_sa file of a folder, some of which other software has written the keys of. */
static unsigned read_folder(const char *folder)
{
	DIR *dir = opendir(folder);
	unsigned n = 0;

	for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
		char path[1024];
		size_t len = strlen(entry->d_name);

		if (len < 7 || strcmp(entry->d_name + len - 7, ".esp_sa") != 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (esp_sa_load(path, &list, &err) != 0)
			fail_msg("%s", err.text);
		sa_list_fini(&list);
		n++;
	}
	if (dir != NULL)
		(void)closedir(dir);
	return n;
}

static void files_of_captures_are_read(void **state)
{
	const char *root = getenv("GATECAP_SOURCE");
	static const char *const parts[] = {"public", "real", "scapy"};
	char path[512];
	unsigned n = 0;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/tests/data", root != NULL ? root : ".");
	n = read_folder(path);
	if (n < 3)
		fail_msg("%s has %u files of SAs; run it from the source folder, or set "
			 "GATECAP_SOURCE",
			 path, n);
	for (unsigned i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof(path), "%s/../shared/pcaps/%s",
			       root != NULL ? root : ".", parts[i]);
		n = read_folder(path);
		if (n == 0)
			print_message("[          ] without %s, which is not there\n", path);
		else
			print_message("[          ] %u files of %s\n", n, path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_line_becomes_one_sa, empty),
		cmocka_unit_test_teardown(each_algorithm_is_read, empty),
		cmocka_unit_test_teardown(every_name_is_in_the_table_above, empty),
		cmocka_unit_test_teardown(keys_are_hexadecimal_or_text, empty),
		cmocka_unit_test_teardown(blank_lines_comments_and_line_ends_are_skipped, empty),
		cmocka_unit_test_teardown(fields_may_have_blanks_around_them_and_no_quotes, empty),
		cmocka_unit_test_teardown(later_versions_say_how_long_sequence_numbers_are, empty),
		cmocka_unit_test_teardown(order_and_line_numbers_are_kept, empty),
		cmocka_unit_test_teardown(an_empty_file_is_no_sas, empty),
		cmocka_unit_test_teardown(a_directive_is_of_the_next_sa_only, empty),
		cmocka_unit_test_teardown(directives_may_be_on_several_lines, empty),
		cmocka_unit_test_teardown(an_sa_in_a_directive_is_read_by_us_alone, empty),
		cmocka_unit_test_teardown(what_is_wrong_is_refused_with_line_and_column, empty),
		cmocka_unit_test_teardown(one_wrong_line_refuses_all, empty),
		cmocka_unit_test_teardown(no_sentence_shows_a_key, empty),
		cmocka_unit_test_teardown(a_key_in_the_wrong_column_is_not_shown, empty),
		cmocka_unit_test_teardown(bytes_are_not_text_and_do_no_harm, empty),
		cmocka_unit_test_teardown(a_line_of_sixteen_megabytes_is_refused, empty),
		cmocka_unit_test_teardown(sixteen_thousand_sas_are_read_and_one_more_is_not, empty),
		cmocka_unit_test_teardown(files_are_read_whole_or_refused, empty),
		cmocka_unit_test_teardown(files_of_captures_are_read, empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
