/* fuzz_capture_file.c - any bytes as a capture file: whole frames, then an end or a sentence. */
#include <sys/mman.h>

#include "dataplane/capture_file.h"
#include "tests/fuzz_insist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FRAME_BYTES_MAX = 14 + 262144, FRAMES_MAX = 100000 };

static void check_frame(const struct file_frame *frame)
{
	insist(frame->len <= FRAME_BYTES_MAX, "frames are bounded");
	insist(frame->wire_len >= frame->len, "what was cut off is not negative");
	for (unsigned i = 0; i < CAPTURE_FILE_PAD_BYTES; i++)
		insist(frame->data[frame->len + i] == 0, "the pad is there and empty");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("capture", MFD_CLOEXEC);
	struct capture_file *file;
	struct file_frame frame;
	struct error err = {0};
	char path[32];
	int rc = 1;

	insist(fd >= 0 && write(fd, data, size) == (ssize_t)size, "memory");
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	file = capture_file_open(path, &err);
	insist(file != NULL || err.text[0] != '\0', "a refusal is a sentence");
	for (unsigned n = 0; file != NULL && rc == 1; n++) {
		insist(n < FRAMES_MAX, "it ends");
		rc = capture_file_read(file, &frame, &err);
		if (rc == 1)
			check_frame(&frame);
	}
	if (rc < 0) {
		insist(err.text[0] != '\0', "what is broken is told");
		insist(capture_file_read(file, &frame, &err) == -1, "broken stays broken");
	}
	capture_file_close(file);
	(void)close(fd);
	return 0;
}
