/* test_esp_vectors.c - the packets that RFCs and their authors published, in every engine.
 *
 * RFC 4309 and RFC 4543 publish none, and 3DES has none for ESP: tests/test_esp_cipher.c has them against
 * OpenSSL's own modes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "dataplane/esp_cipher.h"

enum { BYTES_MAX = 256 };

static struct esp_engine *engines[ESP_ENGINE_KINDS];

static size_t unhex(const char *hex, uint8_t out[BYTES_MAX])
{
	size_t n = 0;
	unsigned byte;

	for (; *hex != '\0'; hex += 2) {
		assert_true(n < BYTES_MAX && sscanf(hex, "%2x", &byte) == 1);
		out[n++] = (uint8_t)byte;
	}
	return n;
}

/* A packet from IV to the end of the ciphertext. */
struct vector {
	const char *source;
	enum esp_cipher cipher;
	const char *key, *iv, *cipher_text, *clear;
};

static const struct vector payloads[] = {
	{"RFC 3602, case 1", ESP_AES_CBC, "06a9214036b8a15b512e03d534120006",
	 "3dafba429d9eb430b422da802c9fac41", "e353779c1079aeb82708942dbe77181a",
	 "53696e676c6520626c6f636b206d7367"},
	{"RFC 3602, case 2", ESP_AES_CBC, "c286696d887c9aa0611bbb3e2025a45a",
	 "562e17996d093d28ddb3ba695a2e6f58",
	 "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
	 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
	{"RFC 3686, vector 1", ESP_AES_CTR, "ae6852f8121067cc4bf7a5765577f39e00000030",
	 "0000000000000000", "e4095d4fb7a7b3792d6175a3261311b8",
	 "53696e676c6520626c6f636b206d7367"},
	{"RFC 3686, vector 2", ESP_AES_CTR, "7e24067817fae0d743d6ce1f32539163006cb6db",
	 "c0543b59da48d90b", "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28",
	 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
	{"RFC 3686, vector 7", ESP_AES_CTR,
	 "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c10400000060",
	 "db5672c97aa8f0b2", "145ad01dbf824ec7560863dc71e3e0c0",
	 "53696e676c6520626c6f636b206d7367"},
	{"GCM specification, case 3", ESP_AES_GCM, "feffe9928665731c6d6a8f9467308308cafebabe",
	 "facedbaddecaf888",
	 "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
	 "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
	 "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
	 "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"},
};

static void the_payloads_of_the_rfcs_are_read(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
		const struct vector *v = &payloads[i];
		struct sa_record sa = {.cipher = (uint8_t)v->cipher,
				       .icv_bytes = esp_ciphers[v->cipher].icv_bytes[0],
				       .enc_key_bytes = (uint8_t)(strlen(v->key) / 2)};
		uint8_t raw[BYTES_MAX], packet[BYTES_MAX], clear[BYTES_MAX], out[BYTES_MAX] = {0};
		size_t n_iv = unhex(v->iv, packet), n = unhex(v->cipher_text, packet + n_iv);
		struct esp_job job = {.iv = packet, .len = (uint32_t)n, .out = out};
		struct esp_key *key;

		memcpy(sa.enc_key, raw, unhex(v->key, raw));
		key = esp_key_open(&sa, false, NULL);
		assert_non_null(key);
		assert_int_equal(unhex(v->clear, clear), n);
		job.key = key;
		for (unsigned e = 0; e < ESP_ENGINE_KINDS; e++) {
			memset(out, 0, sizeof(out));
			esp_decrypt_burst(engines[e], &job, 1);
			if (memcmp(out, clear, n) != 0)
				fail_msg("%s, engine %u", v->source, e);
		}
		esp_key_close(key);
	}
}

/* Whole packets, from SPI to ICV. */
struct packet_vector {
	const char *source;
	enum esp_cipher cipher;
	enum esp_auth auth;
	uint8_t icv_bytes;
	bool has_esn;
	uint32_t seq_high;
	const char *enc_key, *auth_key, *packet;
};

#define B8(b) b b b b b b b b

static const struct packet_vector packets[] = {
	{"draft-mcgrew-gcm-test-01, 0000a5f8", ESP_AES_GCM, ESP_AUTH_NONE, 16, false, 0,
	 "feffe9928665731c6d6a8f9467308308cafebabe", "",
	 "0000a5f80000000afacedbaddecaf888"
	 "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c"
	 "3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1"
	 "83b70d3aa8bc6ee4c309e9d85a41ad4a"},
	{"draft-mcgrew-gcm-test-01, 00004321", ESP_AES_GCM, ESP_AUTH_NONE, 16, true, 0x87654321,
	 "4c80cdefbb5d10da906ac73c3613a6342e443b68", "",
	 "00004321000000004956ed7e3b244cfe"
	 "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34"
	 "cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce"
	 "61bc17d768fd9732459018148f6cbe722fd04796562dfdb4"},
	{"RFC 7634, appendix A", ESP_CHACHA20_POLY1305, ESP_AUTH_NONE, 16, false, 0,
	 "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3", "",
	 "01020304000000051011121314151617"
	 "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6"
	 "14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3"
	 "cbec163fac469b502773f6fb94e664da9165b82829f641e0"
	 "76aaa8266b7fb0f7b11b369907e1ad43"},
	{"RFC 2202, HMAC-MD5 case 1", ESP_NULL, ESP_AUTH_HMAC_MD5_96, 12, false, 0, "",
	 B8("0b") B8("0b"),
	 "4869205468657265"
	 "9294727a3638bb1c13f48ef8"},
	{"RFC 2202, HMAC-SHA1 case 1", ESP_NULL, ESP_AUTH_HMAC_SHA1_96, 12, false, 0, "",
	 B8("0b") B8("0b") "0b0b0b0b",
	 "4869205468657265"
	 "b617318655057264e28bc0b6"},
	{"RFC 4868, SHA256-1", ESP_NULL, ESP_AUTH_HMAC_SHA256_128, 16, false, 0, "",
	 B8("0b") B8("0b") B8("0b") B8("0b"),
	 "4869205468657265"
	 "198a607eb44bfbc69903a0f1cf2bbdc5"},
	{"RFC 4868, SHA384-1", ESP_NULL, ESP_AUTH_HMAC_SHA384_192, 24, false, 0, "",
	 B8("0b") B8("0b") B8("0b") B8("0b") B8("0b") B8("0b"),
	 "4869205468657265"
	 "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"},
	{"RFC 4868, SHA512-1", ESP_NULL, ESP_AUTH_HMAC_SHA512_256, 32, false, 0, "",
	 B8("0b") B8("0b") B8("0b") B8("0b") B8("0b") B8("0b") B8("0b") B8("0b"),
	 "4869205468657265"
	 "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"},
	{"RFC 3566, case 3", ESP_NULL, ESP_AUTH_AES_XCBC_96, 12, false, 0, "",
	 "000102030405060708090a0b0c0d0e0f",
	 "000102030405060708090a0b0c0d0e0f"
	 "d2a246fa349b68a79998a439"},
	{"RFC 3566, case 4", ESP_NULL, ESP_AUTH_AES_XCBC_96, 12, false, 0, "",
	 "000102030405060708090a0b0c0d0e0f",
	 "000102030405060708090a0b0c0d0e0f10111213"
	 "47f51b4564966215b8985c63"},
	{"RFC 3566, case 6", ESP_NULL, ESP_AUTH_AES_XCBC_96, 12, false, 0, "",
	 "000102030405060708090a0b0c0d0e0f",
	 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021"
	 "becbb3bccdb518a30677d548"},
};

static void the_packets_of_the_rfcs_are_good(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		const struct packet_vector *v = &packets[i];
		struct sa_record sa = {.cipher = (uint8_t)v->cipher,
				       .auth = (uint8_t)v->auth,
				       .icv_bytes = v->icv_bytes,
				       .enc_key_bytes = (uint8_t)(strlen(v->enc_key) / 2),
				       .auth_key_bytes = (uint8_t)(strlen(v->auth_key) / 2)};
		uint8_t packet[BYTES_MAX], raw[BYTES_MAX];
		uint32_t len = (uint32_t)unhex(v->packet, packet);
		struct esp_key *key;

		memcpy(sa.enc_key, raw, unhex(v->enc_key, raw));
		memcpy(sa.auth_key, raw, unhex(v->auth_key, raw));
		key = esp_key_open(&sa, true, NULL);
		assert_non_null(key);
		for (unsigned e = 0; e < ESP_ENGINE_KINDS; e++) {
			enum esp_icv right = v->auth == ESP_AUTH_AES_XCBC_96 && e == ESP_OPENSSL
						     ? ESP_ICV_UNCHECKED
						     : ESP_ICV_OK;

			if (esp_check_icv(engines[e], key, packet, len, v->has_esn, v->seq_high) !=
			    right)
				fail_msg("%s, engine %u", v->source, e);
		}
		esp_key_close(key);
	}
}

static int open_engines(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ESP_ENGINE_KINDS; i++)
		engines[i] = esp_engine_open((enum esp_engine_kind)i);
	return engines[0] != NULL && engines[1] != NULL && engines[2] != NULL ? 0 : -1;
}

static int close_engines(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ESP_ENGINE_KINDS; i++)
		esp_engine_close(engines[i]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_payloads_of_the_rfcs_are_read),
		cmocka_unit_test(the_packets_of_the_rfcs_are_good),
	};

	return cmocka_run_group_tests(tests, open_engines, close_engines);
}
