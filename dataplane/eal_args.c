/* eal_args.c - build EAL's argv.
 *
 * --in-memory: no files in /run/dpdk and no hugetlbfs files, so nothing is left behind by a kill.
 * EAL refuses it together with --no-huge, which has no memory files anyway; --no-shconf saves the rest.
 * --no-telemetry: EAL's telemetry is a network service, and this process has none.
 */
#include "dataplane/eal_args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((format(printf, 2, 3))) static void add(struct eal_args *eal, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, fmt);
	if (eal->argc == EAL_ARGS_MAX || vasprintf(&text, fmt, args) < 0)
		eal->is_short_of_memory = true;
	else
		eal->argv[eal->argc++] = text;
	va_end(args);
}

/* "0-1,3" of a CPU set, without those of `without`. */
static void cpu_list(const cpu_set_t *cpus, const cpu_set_t *without, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		int n;

		if (!CPU_ISSET(cpu, cpus) || CPU_ISSET(cpu, without))
			continue;
		n = snprintf(out + used, size - used, "%s%zu", used > 0 ? "," : "", cpu);
		if (n < 0 || (size_t)n >= size - used)
			return;
		used += (size_t)n;
	}
}

static void add_cores(struct eal_args *eal, const struct args *args, const cpu_set_t *cpus)
{
	char all[8192], rest[8192], lcores[65536];
	cpu_set_t none, pinned;
	size_t used;

	CPU_ZERO(&none);
	CPU_ZERO(&pinned);
	for (unsigned i = 0; i < args->n_workers; i++)
		if (args->cores[i] != ARGS_CORE_ANY)
			CPU_SET((size_t)args->cores[i], &pinned);
	cpu_list(cpus, &none, all, sizeof(all));
	cpu_list(cpus, &pinned, rest, sizeof(rest));
	used = (size_t)snprintf(lcores, sizeof(lcores), "0@(%s)", rest[0] != '\0' ? rest : all);
	for (unsigned i = 0; i < args->n_workers && used < sizeof(lcores); i++) {
		if (args->cores[i] == ARGS_CORE_ANY)
			used += (size_t)snprintf(lcores + used, sizeof(lcores) - used, ",%u@(%s)",
						 i + 1, all);
		else
			used += (size_t)snprintf(lcores + used, sizeof(lcores) - used, ",%u@%d",
						 i + 1, args->cores[i]);
	}
	if (used >= sizeof(lcores))
		eal->is_short_of_memory = true;
	add(eal, "--lcores=%s", lcores);
	add(eal, "--main-lcore=0");
}

void eal_device_name(const struct args_port *port, unsigned index,
		     char name[static EAL_DEVICE_NAME_BYTES])
{
	int n = (int)strcspn(port->target, ",");

	switch (port->kind) {
	case SOURCE_AF_XDP:
		(void)snprintf(name, EAL_DEVICE_NAME_BYTES, "net_af_xdp%u", index);
		break;
	case SOURCE_PCI:
		(void)snprintf(name, EAL_DEVICE_NAME_BYTES, "%s%.*s", n < 10 ? "0000:" : "", n,
			       port->target);
		break;
	case SOURCE_VDEV:
		(void)snprintf(name, EAL_DEVICE_NAME_BYTES, "%.*s", n, port->target);
		break;
	case SOURCE_PCAP:
	case SOURCE_AF_PACKET:
		name[0] = '\0';
		break;
	}
}

/* Returns true if the port is a PCI device. */
static bool add_device(struct eal_args *eal, const struct args_port *port, unsigned index,
		       int xdp_fd)
{
	char name[EAL_DEVICE_NAME_BYTES];

	eal_device_name(port, index, name);
	switch (port->kind) {
	case SOURCE_PCAP:
	case SOURCE_AF_PACKET:
		return false;
	case SOURCE_AF_XDP:
		add(eal,
		    "--vdev=%s,iface=%s,start_queue=0,queue_count=%u,xdp_prog=/proc/self/fd/%d",
		    name, port->target, port->n_queues, xdp_fd);
		return false;
	case SOURCE_VDEV:
		add(eal, "--vdev=%s", port->target);
		return false;
	case SOURCE_PCI:
		add(eal, "--allow=%s", port->target);
		return true;
	}
	return false;
}

int eal_args_build(struct eal_args *out, const struct args *args, const cpu_set_t *cpus, int xdp_fd,
		   struct error *err)
{
	bool has_pci = false;

	*out = (struct eal_args){0};
	add(out, "gatecap-dataplane");
	add(out, args->has_hugepages ? "--in-memory" : "--no-shconf");
	add(out, "--no-telemetry");
	add(out, "--file-prefix=gatecap-%d", (int)getpid());
	add(out, "--log-level=*:warning");
	add_cores(out, args, cpus);
	if (!args->has_hugepages)
		add(out, "--no-huge");
	add(out, "-m%u", args->memory_mb);
	for (unsigned i = 0; i < args->n_ports; i++)
		has_pci |= add_device(out, &args->ports[i], i, xdp_fd);
	if (!has_pci)
		add(out, "--no-pci");
	for (unsigned i = 0; i < args->n_eal; i++)
		add(out, "%s", args->eal[i]);
	if (!out->is_short_of_memory)
		return 0;
	eal_args_fini(out);
	error_set(err, "Memory is short for the arguments of EAL.");
	return -ENOMEM;
}

void eal_args_fini(struct eal_args *eal)
{
	for (int i = 0; i < eal->argc; i++)
		free(eal->argv[i]);
	*eal = (struct eal_args){0};
}
