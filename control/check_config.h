/* check_config.h - what a configuration takes, and the command line it gives the dataplane.
 *
 * Threads: any.
 */
#ifndef GATECAP_CONTROL_CHECK_CONFIG_H
#define GATECAP_CONTROL_CHECK_CONFIG_H

#include <stdio.h>
#include <sys/types.h>

#include "control/config.h"

/* Memory, cores and disk, bounded and known in advance, as a table for people. */
void check_config_print(FILE *out, const struct config *config);

/* The arguments of gatecap-dataplane, one a line (docs/dataplane.md). */
void dataplane_args_print(FILE *out, const struct config *config, uid_t control_uid);

/* The same of gatecap-xfrm.  Its group is control_uid's own, as that of the socket it comes to. */
void xfrm_args_print(FILE *out, const struct config *config, uid_t control_uid);

#endif
