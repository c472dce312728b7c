/*
 * launch [-n RUNS] [-c CPU] [-v] COMMAND...: starts the command RUNS times, one after the
 * other, and prints the medians of: milliseconds until it says "init:", milliseconds until
 * it has ended, and CPU milliseconds of it and its children.
 *
 * Address randomization is off, as hull's launcher does it for user-mode Linux, and with -c
 * the command is pinned to one CPU. -v shows the output of the first run.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_RUNS 1000

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static double cpu_of_children(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
	       (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_spread(const char *what, double *v, int n)
{
	qsort(v, n, sizeof(*v), compare);
	printf("%s %.1f (%.1f-%.1f)  ", what, v[n / 2], v[0], v[n - 1]);
}

static void run_command(char **command, int cpu, int out)
{
	int null = open("/dev/null", O_RDONLY);
	cpu_set_t set;

	dup2(null, 0);
	dup2(out, 1);
	dup2(out, 2);
	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	personality(ADDR_NO_RANDOMIZE);
	execvp(command[0], command);
	perror(command[0]);
	_exit(127);
}

int main(int argc, char **argv)
{
	static double up[MAX_RUNS], end[MAX_RUNS], cpu_ms[MAX_RUNS];
	static char output[1 << 20];
	int runs = 10, cpu = -1, verbose = 0, opt;

	while ((opt = getopt(argc, argv, "+n:c:v")) != -1) {
		switch (opt) {
		case 'n': runs = atoi(optarg); break;
		case 'c': cpu = atoi(optarg); break;
		case 'v': verbose = 1; break;
		default: return 2;
		}
	}
	if (optind == argc || runs < 1 || runs > MAX_RUNS) {
		fprintf(stderr, "usage: launch [-n RUNS] [-c CPU] [-v] COMMAND...\n");
		return 2;
	}
	for (int i = 0; i < runs; i++) {
		double start, cpu_start = cpu_of_children();
		int p[2], pid, n, status;
		size_t len = 0;

		if (pipe2(p, O_CLOEXEC))
			return 1;
		start = now();
		pid = fork();
		if (pid == 0)
			run_command(argv + optind, cpu, p[1]);
		close(p[1]);
		while ((n = read(p[0], output + len, sizeof(output) - 1 - len)) > 0) {
			len += n;
			output[len] = 0;
			if (!up[i] && strstr(output, "init: up"))
				up[i] = now() - start;
		}
		waitpid(pid, &status, 0);
		end[i] = now() - start;
		cpu_ms[i] = cpu_of_children() - cpu_start;
		close(p[0]);
		if (verbose && i == 0)
			fwrite(output, 1, len, stdout);
		if (status && i == 0)
			printf("wait status 0x%x\n", status);
	}
	print_spread("init", up, runs);
	print_spread("end", end, runs);
	print_spread("cpu", cpu_ms, runs);
	printf("ms, %d runs\n", runs);
	return 0;
}
