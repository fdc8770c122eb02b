/* xfrm_algorithm.c - two tables of names, and one decision.
 *
 * An authentication that is not in the table, or is cut to a length that is not its RFC's, costs the
 * check and not the contents: the ICV's length is known, so ESP_AUTH_UNCHECKED does.  A cipher that is
 * not in the table costs the SA.
 * A kernel in lockdown (confidentiality) writes zeros over every key that it gives.  So keys are hidden if
 * all of an SA's are zero; one key of zeros beside another that is not was somebody's choice.
 */
#include "control/xfrm_algorithm.h"

#include <stdio.h>
#include <string.h>

struct cipher_name {
	const char *name;
	enum esp_cipher cipher;
};

static const struct cipher_name aead_names[] = {
	{"rfc4106(gcm(aes))", ESP_AES_GCM},
	{"rfc4309(ccm(aes))", ESP_AES_CCM},
	{"rfc4543(gcm(aes))", ESP_AES_GMAC},
	{"rfc7539esp(chacha20,poly1305)", ESP_CHACHA20_POLY1305},
	{NULL, ESP_UNSUPPORTED},
};

static const struct cipher_name crypt_names[] = {
	{"cbc(aes)", ESP_AES_CBC},	 {"rfc3686(ctr(aes))", ESP_AES_CTR},
	{"cbc(des3_ede)", ESP_3DES_CBC}, {"ecb(cipher_null)", ESP_NULL},
	{NULL, ESP_UNSUPPORTED},
};

/* The first row of a name has the length that the kernel takes when none is said. */
struct auth_name {
	const char *name;
	uint32_t icv_bits;
	enum esp_auth auth;
};

static const struct auth_name auth_names[] = {
	{"digest_null", 0, ESP_AUTH_NONE},
	{"hmac(md5)", 96, ESP_AUTH_HMAC_MD5_96},
	{"hmac(sha1)", 96, ESP_AUTH_HMAC_SHA1_96},
	{"hmac(sha256)", 96, ESP_AUTH_HMAC_SHA256_96},
	{"hmac(sha256)", 128, ESP_AUTH_HMAC_SHA256_128},
	{"hmac(sha384)", 192, ESP_AUTH_HMAC_SHA384_192},
	{"hmac(sha512)", 256, ESP_AUTH_HMAC_SHA512_256},
	{"xcbc(aes)", 96, ESP_AUTH_AES_XCBC_96},
	{NULL, 0, ESP_AUTH_UNCHECKED},
};

static enum esp_cipher find_cipher(const struct cipher_name *names, const char *name)
{
	while (names->name != NULL && strcmp(names->name, name) != 0)
		names++;
	return names->cipher;
}

/* The authentication, and its ICV in *icv_bits: 0 where it has none, or the length is not known. */
static enum esp_auth find_auth(const struct xfrm_algorithm *a, uint32_t *icv_bits)
{
	*icv_bits = a->icv_bits;
	for (const struct auth_name *row = auth_names; row->name != NULL; row++) {
		if (strcmp(row->name, a->name) != 0)
			continue;
		if (*icv_bits == 0)
			*icv_bits = row->icv_bits;
		if (*icv_bits == row->icv_bits)
			return row->auth;
	}
	return ESP_AUTH_UNCHECKED;
}

static bool is_zero(const struct xfrm_algorithm *a)
{
	uint8_t bits = 0;

	for (uint32_t i = 0; i < a->key_bytes; i++)
		bits |= a->key[i];
	return bits == 0;
}

/* There are keys, and the kernel shows none of them. */
static bool are_keys_hidden(const struct xfrm_algorithms *a)
{
	return a->aead.key_bytes + a->crypt.key_bytes + a->auth.key_bytes > 0 &&
	       is_zero(&a->aead) && is_zero(&a->crypt) && is_zero(&a->auth);
}

/* The names, and the ICV's bits. */
static void describe(const struct xfrm_algorithms *a, char text[static ALGORITHM_TEXT_MAX])
{
	const struct xfrm_algorithm *icv = a->aead.name[0] != '\0' ? &a->aead : &a->auth;
	char whole[2 * XFRM_NAME_MAX + 16];

	if (icv == &a->aead)
		(void)snprintf(whole, sizeof(whole), "%s %u", icv->name, icv->icv_bits);
	else if (icv->icv_bits > 0)
		(void)snprintf(whole, sizeof(whole), "%s %s %u", a->crypt.name, icv->name,
			       icv->icv_bits);
	else
		(void)snprintf(whole, sizeof(whole), "%s %s", a->crypt.name, icv->name);
	for (unsigned i = 0; i < ALGORITHM_TEXT_MAX; i++) {
		text[i] = whole[i];
		if (whole[i] == '\0')
			break;
		if (whole[i] < ' ' || whole[i] > '~') // the kernel's are printable
			text[i] = '?';
	}
	text[ALGORITHM_TEXT_MAX - 1] = '\0';
}

void xfrm_algorithm_give_up(struct sa_item *item, const char *why)
{
	struct sa_record *r = &item->record;
	char text[ALGORITHM_TEXT_MAX];

	r->cipher = ESP_UNSUPPORTED;
	r->auth = ESP_AUTH_NONE;
	r->icv_bytes = r->enc_key_bytes = r->auth_key_bytes = 0;
	explicit_bzero(r->enc_key, sizeof(r->enc_key));
	explicit_bzero(r->auth_key, sizeof(r->auth_key));
	(void)snprintf(text, sizeof(text), "%s%.*s", why, (int)(sizeof(text) - 1 - strlen(why)),
		       item->algorithm);
	memcpy(item->algorithm, text, sizeof(text));
}

static bool set_cipher(struct sa_record *r, enum esp_cipher cipher, const struct xfrm_algorithm *a)
{
	if (cipher == ESP_UNSUPPORTED || a->key_bytes > ESP_ENC_KEY_MAX ||
	    !esp_takes_key(cipher, a->key_bytes))
		return false;
	r->cipher = (uint8_t)cipher;
	r->enc_key_bytes = (uint8_t)a->key_bytes;
	if (a->key_bytes > 0)
		memcpy(r->enc_key, a->key, a->key_bytes);
	return true;
}

/* The ICV's length is all that decrypting needs; a key that does not fit costs the check alone. */
static bool set_auth(struct sa_record *r, enum esp_auth auth, uint32_t icv_bits,
		     const struct xfrm_algorithm *a)
{
	bool has_key = a->key_bytes > 0 && a->key_bytes <= ESP_AUTH_KEY_MAX && !is_zero(a) &&
		       (auth != ESP_AUTH_AES_XCBC_96 || a->key_bytes == esp_auths[auth].key_bytes);

	if (auth != ESP_AUTH_NONE && !has_key)
		auth = ESP_AUTH_UNCHECKED;
	if (icv_bits % 8 != 0 || icv_bits / 8 > ESP_ICV_MAX ||
	    !esp_takes_icv((enum esp_cipher)r->cipher, auth, icv_bits / 8))
		return false;
	r->auth = (uint8_t)auth;
	r->icv_bytes = (uint8_t)(icv_bits / 8);
	if (auth != ESP_AUTH_NONE && auth != ESP_AUTH_UNCHECKED) {
		r->auth_key_bytes = (uint8_t)a->key_bytes;
		memcpy(r->auth_key, a->key, a->key_bytes);
	}
	return true;
}

enum xfrm_fault xfrm_algorithm_decide(const struct xfrm_algorithms *a, struct sa_item *item)
{
	bool is_aead = a->aead.name[0] != '\0';
	enum esp_cipher cipher = is_aead ? find_cipher(aead_names, a->aead.name)
					 : find_cipher(crypt_names, a->crypt.name);
	uint32_t icv_bits = is_aead ? a->aead.icv_bits : 0;
	enum esp_auth auth = ESP_AUTH_NONE;

	if (!is_aead && a->auth.name[0] != '\0')
		auth = find_auth(&a->auth, &icv_bits);
	describe(a, item->algorithm);
	if (are_keys_hidden(a) && cipher != ESP_NULL) {
		xfrm_algorithm_give_up(item, "keys hidden by the kernel: ");
		return XFRM_KEYS_HIDDEN;
	}
	if (!set_cipher(&item->record, cipher, is_aead ? &a->aead : &a->crypt) ||
	    !set_auth(&item->record, auth, icv_bits, &a->auth)) {
		xfrm_algorithm_give_up(item, "");
		return XFRM_UNSUPPORTED;
	}
	return XFRM_FINE;
}
