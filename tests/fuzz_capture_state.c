/* fuzz_capture_state.c - any bytes as the file of a capture: no crash, no leak, and what is taken is
 * written as it was read.
 *
 * The first byte chooses: as they are, or with a checksum that agrees, so that the parser behind it is
 * reached.  Run: fuzz_capture_state with the files of tests/corpus/capture_state (meson test --suite fuzz)
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control/capture_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_taken(struct capture *c)
{
	char *text = capture_state_text(c), *again;
	struct error err = {0};
	struct capture *back = capture_state_parse(text, strlen(text), &err);

	assert(back != NULL);
	again = capture_state_text(back);
	assert(strcmp(text, again) == 0);
	assert(capture_id_is_sound(c->id));
	assert(!capture_is_running(c) || (c->slot >= 0 && c->slot < CAPTURES_MAX));
	free(again);
	free(text);
	capture_free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = {0};
	struct capture *c;
	char *text;

	if (size == 0)
		return 0;
	text = calloc(1, size + CAPTURE_STATE_SUFFIX_BYTES + 1);
	assert(text != NULL);
	memcpy(text, data + 1, size - 1);
	size--;
	if (data[0] & 1) {
		if (size > 0 && text[size - 1] == '\n') // of the corpus: the text without its end
			size--;
		capture_state_suffix(text, size, text + size);
		size += CAPTURE_STATE_SUFFIX_BYTES;
	}
	c = capture_state_parse(text, size, &err);
	if (c != NULL)
		check_taken(c);
	else
		assert(err.text[0] != '\0');
	capture_free(c);
	free(text);
	return 0;
}
