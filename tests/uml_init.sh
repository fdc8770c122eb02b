#!/bin/bash
# uml_init.sh - first process of a guest that tests/uml.py starts: makes the machine usable, runs the
# script of the test, powers off.
#
# On the kernel's command line: gatecap_folder=FOLDER, which is seen at /run/test, the script in it as
# `script`; what the script prints goes to `out` there, its exit status to `status`.
# The root is the host's own, read-only; /run and /tmp are the guest's.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /run
mount -t tmpfs none /tmp
for word in $(</proc/cmdline); do
	[[ $word == gatecap_folder=* ]] && folder=${word#*=}
done
mkdir -p /run/test /run/lib/modules
mount -t hostfs -o "$folder" none /run/test

# The guest's modules are not where modprobe looks.
ln -s "/usr/lib/uml/modules/$(uname -r)" "/run/lib/modules/$(uname -r)"
printf '#!/bin/sh\nexec /usr/sbin/modprobe -d /run "$@"\n' >/run/modprobe
chmod 755 /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
modprobe -d /run -a ipv6 esp4 esp6 xfrm_user
ip link set lo up

bash /run/test/script >/run/test/out 2>&1
echo $? >/run/test/status
sync
echo o >/proc/sysrq-trigger
sleep 10
