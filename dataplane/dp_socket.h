/* dp_socket.h - SOCK_SEQPACKET with descriptors: listen, send one packet, receive one packet.
 *
 * Threads: any, one a socket.
 * Trust:   received bytes and descriptors are hostile; a packet that is longer than the buffer, or
 *          brings more descriptors than DP_SOCKET_FDS_MAX, is an error, and nothing of it stays open.
 */
#ifndef GATECAP_DATAPLANE_DP_SOCKET_H
#define GATECAP_DATAPLANE_DP_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

#include "filters/error.h"

enum { DP_SOCKET_FDS_MAX = 4 };

/* Listen at path, mode 0600 and owned by `owner`.  A socket that nobody serves any more is replaced.
 * Gives a non-blocking descriptor, or -errno and a sentence.
 */
int dp_socket_listen(const char *path, uid_t owner, struct error *err);

/* Send without waiting.  0 or -errno. */
int dp_socket_send(int fd, const void *message, size_t bytes, const int *fds, unsigned n_fds);

/* Receive without waiting.  Gives the bytes, 0: the peer is gone, -errno.  *n_fds descriptors are
 * the caller's to close.
 */
ssize_t dp_socket_receive(int fd, void *message, size_t bytes, int fds[static DP_SOCKET_FDS_MAX],
			  unsigned *n_fds);

#endif
