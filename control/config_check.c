/* config_check.c - what a text of the configuration must look like.
 *
 * Each check answers NULL or the end of a sentence that says what would be right.  Control
 * characters were refused before.  Names become parts of blob names, URLs and file names: hence no
 * '/', no "." and no "..".
 */
#include <ctype.h>
#include <limits.h>
#include <net/if.h>
#include <stdbool.h>
#include <string.h>

#include "control/config_read.h"

enum { DNS_NAME_MAX = 253, PREFIX_BYTES_MAX = 200 };

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* Only letters, digits and those of `more`. */
static bool is_made_of(const char *text, const char *more)
{
	for (; *text != '\0'; text++)
		if (!isascii((unsigned char)*text) ||
		    (!isalnum((unsigned char)*text) && strchr(more, *text) == NULL))
			return false;
	return true;
}

const char *config_check_name(const char *text)
{
	size_t len = strlen(text);

	if (len == 0)
		return "must not be empty";
	if (strchr(text, '/') != NULL)
		return "must not hold a '/': names are parts of blob names and URLs";
	if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
		return "must not be \".\" or \"..\": names are parts of paths";
	if (text[0] == ' ' || text[len - 1] == ' ')
		return "must not start or end with a space";
	return NULL;
}

static const char *check_interface(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= IF_NAMESIZE || strpbrk(name, "/: ,") != NULL)
		return "must name a network interface behind the colon: 1 to 15 characters "
		       "without '/', ':', ',' or spaces, as in af_packet:eth0";
	return NULL;
}

const char *config_check_source(const char *text)
{
	if (text[0] == '\0')
		return "must not be empty; it is pcap:FILE, af_packet:INTERFACE, af_xdp:INTERFACE "
		       "or an EAL device such as 0000:03:00.0";
	if (starts_with(text, "pcap:"))
		return text[5] != '\0' ? NULL : "must name a file behind the colon";
	if (starts_with(text, "af_packet:"))
		return check_interface(text + strlen("af_packet:"));
	if (starts_with(text, "af_xdp:"))
		return check_interface(text + strlen("af_xdp:"));
	return NULL;
}

const char *config_check_dns_name(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > DNS_NAME_MAX || text[0] == '.' || text[0] == '-' ||
	    strstr(text, "..") != NULL || !is_made_of(text, ".-_"))
		return "must be a DNS name such as vpn.example.com; addresses go into "
		       "\"addresses\"";
	return NULL;
}

const char *config_check_allowed_host(const char *text)
{
	const char *name = text[0] == '.' ? text + 1 : text;
	size_t len = strlen(name);

	if (len == 0 || len > DNS_NAME_MAX || name[0] == '.' || strstr(name, "..") != NULL ||
	    !is_made_of(name, ".-_:[]"))
		return "must be a host such as account.blob.core.windows.net, or a suffix such as "
		       ".blob.core.windows.net; no scheme, no path, no wildcard";
	return NULL;
}

const char *config_check_proxy(const char *text)
{
	static const char *const schemes[] = {"http://", "https://", "socks5://", "socks5h://"};

	for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (starts_with(text, schemes[i]) && text[strlen(schemes[i])] != '\0' &&
		    strchr(text, ' ') == NULL)
			return NULL;
	return "must be a URL such as http://proxy.example.com:3128 (http, https, socks5 or "
	       "socks5h); the value is not shown, since it may hold a password";
}

const char *config_check_prefix(const char *text)
{
	static const char wrong[] = "must be \"\" or a relative path such as captures/site-1: "
				    "at most 200 bytes, no empty, \".\" or \"..\" part, no "
				    "backslash";
	const char *part = text;

	if (text[0] == '\0')
		return NULL;
	if (strlen(text) > PREFIX_BYTES_MAX || strchr(text, '\\') != NULL)
		return wrong;
	for (;;) {
		size_t len = strcspn(part, "/");

		if (len == 0 || (len == 1 && part[0] == '.') ||
		    (len == 2 && part[0] == '.' && part[1] == '.'))
			return wrong;
		if (part[len] == '\0')
			return NULL;
		part += len + 1;
	}
}

const char *config_check_file(const char *text)
{
	size_t len = strlen(text);

	// The daemon's working folder is nobody's business.
	if (text[0] != '/' || text[len - 1] == '/' || len >= PATH_MAX)
		return "must be the absolute path of a file, such as /etc/gatecap/esp_sa";
	return NULL;
}
