/* capture_state.h - a capture as text, so that it outlives the process.
 *
 * Flow:    struct capture -> capture_state_text() -> ID.capture -> capture_state_parse() -> struct capture
 * Threads: any; no globals.
 * Text:    one JSON object of docs/formats.md "Captures on disk"; counters are strings of digits, since a
 *          double has too few; its last member is a checksum of all before, so that a text is taken as it
 *          was written or not at all.
 * Secrets: the SAS URL is not in it.
 * Proof:   tests/test_capture_state.c, tests/fuzz_capture_state.c
 */
#ifndef GATECAP_CONTROL_CAPTURE_STATE_H
#define GATECAP_CONTROL_CAPTURE_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "control/capture.h"

enum { CAPTURE_STATE_BYTES_MAX = 8 << 20, CAPTURE_STATE_SUFFIX_BYTES = 32 };

/* Gives (free) the text, or NULL when memory is short.  Bytes that are no UTF-8 become '?'. */
char *capture_state_text(const struct capture *capture);

/* Gives the capture without store and SAS URL, or NULL and a phrase: "it is damaged". */
struct capture *capture_state_parse(const char *text, size_t len, struct error *err);

/* The last member of a text whose first n bytes are `text`, and the end of the object. */
void capture_state_suffix(const char *text, size_t n, char out[CAPTURE_STATE_SUFFIX_BYTES + 1]);

/* Could it be the id of a capture: a time and a number, nothing that leads out of a folder? */
bool capture_id_is_sound(const char *id);

#endif
