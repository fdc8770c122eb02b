/* replay.h - `gatecap replay`: what a capture of this traffic would have recorded.
 *
 * The stages of the dataplane and the merge and store of gatecapd in one process and one thread,
 * without daemon, EAL, root or hugepages.  The same input gives the same output, byte for byte.
 */
#ifndef GATECAP_TOOLS_REPLAY_H
#define GATECAP_TOOLS_REPLAY_H

/* argv[0] is "replay".  Gives the process's exit code: 0 done, 1 failed, 2 wrong usage. */
int replay_main(int argc, char **argv);

#endif
