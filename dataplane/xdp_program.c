/* xdp_program.c - the embedded object file, and detaching by name.
 *
 * The driver loads the object itself from a path; /proc/self/fd/N of a memfd is one, so nothing has to
 * be installed or left in a folder.
 */
#include "dataplane/xdp_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "xdp_redirect_object.h" /* generated: xdp_redirect_object[] */

static const char program_name[] = "gatecap_xdp";

int xdp_program_memfd(struct error *err)
{
	int fd = memfd_create("gatecap-xdp", MFD_CLOEXEC);
	ssize_t n;

	if (fd < 0) {
		error_set(err, "The XDP program cannot be put into memory: %s.", strerror(errno));
		return -errno;
	}
	n = write(fd, xdp_redirect_object, sizeof(xdp_redirect_object));
	if (n != (ssize_t)sizeof(xdp_redirect_object)) {
		error_set(err, "The XDP program cannot be put into memory: it is cut.");
		close(fd);
		return -EIO;
	}
	return fd;
}

/* 1: the program of that id is ours, 0: it is not, -errno. */
static int is_ours(unsigned id)
{
	struct bpf_prog_info info = {0};
	unsigned size = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);
	int rc;

	if (fd < 0)
		return -errno;
	rc = bpf_obj_get_info_by_fd(fd, &info, &size);
	close(fd);
	if (rc != 0)
		return rc;
	return strncmp(info.name, program_name, sizeof(info.name)) == 0;
}

int xdp_program_remove_left_over(const char *interface, struct error *err)
{
	int index = (int)if_nametoindex(interface);
	unsigned id;
	int rc;

	if (index == 0) {
		error_set(err, "af_xdp:%s: there is no such network interface; see ip link.",
			  interface);
		return -ENODEV;
	}
	id = xdp_program_id(index);
	rc = id == 0 ? 0 : is_ours(id);
	if (rc == 1) {
		rc = xdp_program_detach(index, id);
		rc = rc == 0 ? 1 : rc;
	}
	if (rc < 0)
		error_set(
			err,
			"af_xdp:%s: there is an XDP program on it that cannot be read or removed (%s); "
			"start as root, or take it off with ip link set dev %s xdp off.",
			interface, strerror(-rc), interface);
	return rc;
}

unsigned xdp_program_id(int interface)
{
	unsigned id = 0;

	return bpf_xdp_query_id(interface, 0, &id) == 0 ? id : 0;
}

int xdp_program_detach(int interface, unsigned id)
{
	if (id == 0 || xdp_program_id(interface) != id)
		return 0;
	return bpf_xdp_detach(interface, 0, NULL);
}
