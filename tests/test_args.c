/* test_args.c - every option, every way to get one wrong, and what EAL is told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "dataplane/args.h"
#include "dataplane/eal_args.h"

enum { WORDS_MAX = 80 };

static struct args args;
static struct error err;

/* Parse the words behind the program's name. */
static int parse(const char *const *words)
{
	char *argv[WORDS_MAX] = {"gatecap-dataplane"};
	int argc = 1;

	while (words[argc - 1] != NULL) {
		argv[argc] = (char *)(uintptr_t)words[argc - 1];
		argc++;
	}
	err.text[0] = '\0';
	return args_parse(argc, argv, &args, &err);
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})
#define PORT	   "--port", "name=wan,source=af_packet:eth0"

static void defaults_are_those_of_the_manual(void **state)
{
	(void)state;
	assert_int_equal(PARSE(PORT), ARGS_RUN);
	assert_string_equal(args.socket, "/run/gatecap/dp.sock");
	assert_int_equal(args.control_uid, 0);
	assert_int_equal(args.n_workers, 1);
	assert_int_equal(args.cores[0], ARGS_CORE_ANY);
	assert_int_equal(args.ring_bytes, 64 << 20);
	assert_int_equal(args.memory_mb, 256);
	assert_false(args.has_hugepages || args.is_sleeping);
	assert_int_equal(args.n_ports, 1);
	assert_int_equal(args.ports[0].n_queues, 1);
	assert_int_equal(args.ports[0].loops, 1);
	assert_false(args.ports[0].is_inner || args.ports[0].is_fast ||
		     args.ports[0].is_played_at_boot);
}

static void every_option_arrives(void **state)
{
	(void)state;
	assert_int_equal(
		PARSE("--socket", "/tmp/x", "--control-uid", "990", "--workers", "2", "--cores",
		      "3,1", "--ring-bytes", "1048576", "--hugepages", "--memory-mb", "1024",
		      "--idle", "sleep", "--eal", "--legacy-mem", "--eal", "-v", "--port",
		      "name=lan,role=inner,queues=2,pace=fast,loops=0,start=boot,source=pcap:a,b=c.pcap",
		      PORT),
		ARGS_RUN);
	assert_string_equal(args.socket, "/tmp/x");
	assert_int_equal(args.control_uid, 990);
	assert_int_equal(args.n_workers, 2);
	assert_int_equal(args.cores[0], 3);
	assert_int_equal(args.cores[1], 1);
	assert_int_equal(args.ring_bytes, 1 << 20);
	assert_int_equal(args.memory_mb, 1024);
	assert_true(args.has_hugepages && args.is_sleeping);
	assert_int_equal(args.n_eal, 2);
	assert_string_equal(args.eal[0], "--legacy-mem");
	assert_int_equal(args.n_ports, 2);
	assert_string_equal(args.ports[0].name, "lan");
	assert_string_equal(args.ports[0].target, "a,b=c.pcap");
	assert_int_equal(args.ports[0].kind, SOURCE_PCAP);
	assert_int_equal(args.ports[0].loops, 0);
	assert_true(args.ports[0].is_inner && args.ports[0].is_fast &&
		    args.ports[0].is_played_at_boot);
}

static void sources_are_told_apart(void **state)
{
	static const struct {
		const char *port;
		enum source_kind kind;
		const char *device;
	} cases[] = {
		{"name=p,source=pcap:x", SOURCE_PCAP, ""},
		{"name=p,source=af_packet:eth0", SOURCE_AF_PACKET, ""},
		{"name=p,source=af_xdp:eth0", SOURCE_AF_XDP, "net_af_xdp7"},
		{"name=p,source=0000:03:00.1", SOURCE_PCI, "0000:03:00.1"},
		{"name=p,source=03:0a.1,arg=1", SOURCE_PCI, "0000:03:0a.1"},
		{"name=p,source=net_ring0", SOURCE_VDEV, "net_ring0"},
		{"name=p,source=net_pcap0,rx_pcap=f,infinite_rx=1", SOURCE_VDEV, "net_pcap0"},
		{"name=p,source=eth_null1", SOURCE_VDEV, "eth_null1"},
	};
	char name[EAL_DEVICE_NAME_BYTES];

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(PARSE("--port", cases[i].port), ARGS_RUN);
		assert_int_equal(args.ports[0].kind, cases[i].kind);
		eal_device_name(&args.ports[0], 7, name);
		assert_string_equal(name, cases[i].device);
	}
}

static void every_fault_is_a_sentence_that_names_it(void **state)
{
	static const struct {
		const char *words[8];
		const char *named;
	} cases[] = {
		{{"--frobnicate"}, "--frobnicate"},
		{{"word"}, "word"},
		{{"--socket"}, "--socket"},
		{{PORT, "--socket", ""}, "--socket"},
		{{PORT, "--control-uid", "root"}, "root"},
		{{PORT, "--control-uid", "4294967295"}, "--control-uid"},
		{{PORT, "--workers", "0"}, "1 to 64"},
		{{PORT, "--workers", "65"}, "65"},
		{{PORT, "--workers", "-1"}, "-1"},
		{{PORT, "--workers", " 1"}, "--workers"},
		{{PORT, "--workers", "1x"}, "1x"},
		{{PORT, "--workers", "99999999999999999999"}, "--workers"},
		{{PORT, "--cores", "1,2"}, "2 cores for 1 workers"},
		{{PORT, "--cores", "a"}, "--cores"},
		{{PORT, "--cores", "1,"}, "--cores"},
		{{PORT, "--cores", "1024"}, "--cores"},
		{{PORT, "--ring-bytes", "1000000"}, "power of two"},
		{{PORT, "--ring-bytes", "524288"}, "power of two"},
		{{PORT, "--ring-bytes", "8589934592"}, "power of two"},
		{{PORT, "--memory-mb", "1"}, "--memory-mb"},
		{{PORT, "--idle", "nap"}, "nap"},
		{{"--workers", "1"}, "--port"},
		{{"--port", "source=pcap:x"}, "name="},
		{{"--port", "name=x"}, "source="},
		{{"--port", "name=x,colour=red,source=pcap:x"}, "colour"},
		{{"--port", "name=x,name=y,source=pcap:x"}, "twice"},
		{{"--port", "name=x,role=side,source=pcap:x"}, "side"},
		{{"--port", "name=x,queues=2,source=pcap:x"}, "2 queues for 1 workers"},
		{{"--port", "name=x,queues=0,source=pcap:x"}, "queues="},
		{{"--port", "name=x,pace=slow,source=pcap:x"}, "slow"},
		{{"--port", "name=x,loops=-1,source=pcap:x"}, "loops="},
		{{"--port", "name=x,start=later,source=pcap:x"}, "later"},
		{{"--port", "name=x,pace=fast,source=af_packet:eth0"}, "pcap:FILE only"},
		{{"--port", "name=x,source=pcap:"}, "names no file"},
		{{"--port", "name=x,source=eth0"}, "eth0"},
		{{"--port", "name=x,source=af_packet:"}, "interface"},
		{{"--port", "name=x,source=af_packet:eth0,framesz=1"}, "interface"},
		{{"--port", "name=x,source=af_xdp:averylonginterface"}, "averylonginterface"},
		{{PORT, "--port", "name=wan,source=pcap:x"}, "wan"},
		{{PORT, "--port", "name=lan,source=af_packet:eth0"}, "af_packet:eth0"},
		{{"--port", ""}, "name="},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n;

		assert_int_equal(parse(cases[i].words), -EINVAL);
		n = strlen(err.text);
		if (strstr(err.text, cases[i].named) == NULL || n == 0 || err.text[n - 1] != '.')
			fail_msg("case %u: \"%s\" does not name \"%s\"", i, err.text,
				 cases[i].named);
	}
}

static void too_many_ports_and_too_long_texts_are_faults(void **state)
{
	char ports[PORTS_MAX + 1][64], name[200], path[200];
	const char *words[WORDS_MAX] = {0};

	(void)state;
	for (unsigned i = 0; i <= PORTS_MAX; i++) {
		(void)snprintf(ports[i], sizeof(ports[i]), "name=p%u,source=pcap:x", i);
		words[2 * i] = "--port";
		words[2 * i + 1] = ports[i];
	}
	assert_int_equal(parse(words), -EINVAL);
	words[2 * PORTS_MAX] = NULL;
	assert_int_equal(parse(words), ARGS_RUN);
	assert_int_equal(args.n_ports, PORTS_MAX);
	(void)snprintf(name, sizeof(name), "name=%080d,source=pcap:x", 0);
	assert_int_equal(PARSE("--port", name), -EINVAL);
	(void)snprintf(path, sizeof(path), "/%0100d", 0);
	assert_int_equal(PARSE(PORT, "--socket", path), -EINVAL);
}

static void help_and_version_come_before_faults_behind_them(void **state)
{
	(void)state;
	assert_int_equal(PARSE("--help", "--nothing"), ARGS_HELP);
	assert_int_equal(PARSE("--version"), ARGS_VERSION);
	assert_non_null(strstr(args_help(), "Example:"));
}

/* The words that EAL gets, joined by blanks, without the file prefix. */
static const char *eal_line(int xdp_fd)
{
	static char line[4096];
	struct eal_args eal;
	cpu_set_t cpus;
	size_t used = 0;

	CPU_ZERO(&cpus);
	for (size_t cpu = 0; cpu < 4; cpu++)
		CPU_SET(cpu, &cpus);
	assert_int_equal(eal_args_build(&eal, &args, &cpus, xdp_fd, &err), 0);
	assert_null(eal.argv[eal.argc]);
	for (int i = 1; i < eal.argc; i++)
		if (strncmp(eal.argv[i], "--file-prefix", 13) != 0)
			used += (size_t)snprintf(line + used, sizeof(line) - used, "%s ",
						 eal.argv[i]);
	eal_args_fini(&eal);
	return line;
}

static void eal_gets_cores_memory_and_devices(void **state)
{
	(void)state;
	assert_int_equal(PARSE("--port", "name=a,source=pcap:x"), ARGS_RUN);
	assert_string_equal(eal_line(-1),
			    "--no-shconf --no-telemetry --log-level=*:warning "
			    "--lcores=0@(0,1,2,3),1@(0,1,2,3) --main-lcore=0 --no-huge -m256 "
			    "--no-pci ");
	assert_int_equal(PARSE("--workers", "2", "--cores", "2,3", "--hugepages", "--port",
			       "name=a,queues=2,source=af_packet:eth0", "--port",
			       "name=b,source=af_xdp:eth1", "--port", "name=c,source=03:00.0,x=1",
			       "--port", "name=d,source=net_null0", "--eal", "--iova-mode=va"),
			 ARGS_RUN);
	assert_string_equal(
		eal_line(9),
		"--in-memory --no-telemetry --log-level=*:warning --lcores=0@(0,1),1@2,2@3 --main-lcore=0 "
		"-m256 --vdev=net_af_xdp1,iface=eth1,start_queue=0,queue_count=1,xdp_prog=/proc/self/fd/9 "
		"--allow=03:00.0,x=1 --vdev=net_null0 --iova-mode=va ");
}

static void main_thread_shares_cores_when_workers_take_all(void **state)
{
	(void)state;
	assert_int_equal(PARSE("--workers", "4", "--cores", "0,1,2,3", PORT), ARGS_RUN);
	assert_non_null(strstr(eal_line(-1), "--lcores=0@(0,1,2,3),1@0,2@1,3@2,4@3 "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_manual),
		cmocka_unit_test(every_option_arrives),
		cmocka_unit_test(sources_are_told_apart),
		cmocka_unit_test(every_fault_is_a_sentence_that_names_it),
		cmocka_unit_test(too_many_ports_and_too_long_texts_are_faults),
		cmocka_unit_test(help_and_version_come_before_faults_behind_them),
		cmocka_unit_test(eal_gets_cores_memory_and_devices),
		cmocka_unit_test(main_thread_shares_cores_when_workers_take_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
