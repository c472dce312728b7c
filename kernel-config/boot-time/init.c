/*
 * The init of the boot-time measurements: says that it runs and powers off, or does what
 * the last argument of the kernel's command line names (bench, panic, restart, exit, info).
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void report(const char *what, double start, int n)
{
	printf("%s: %.2f us\n", what, (now() - start) / n);
}

static void echo_bytes(int from, int to)
{
	char c;

	while (read(from, &c, 1) == 1)
		if (write(to, &c, 1) != 1)
			break;
	_exit(0);
}

static void bench(void)
{
	const size_t size = 16 << 20, page = 4096;
	int there[2], back[2], pid;
	double start = now();
	char c = 0, *m;

	for (int i = 0; i < 20000; i++)
		syscall(SYS_getppid);
	report("system call", start, 20000);

	start = now();
	for (int i = 0; i < 50; i++) {
		pid = fork();
		if (pid == 0) {
			execl("/init", "init", "nothing", NULL);
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	}
	report("fork and exec", start, 50);

	start = now();
	m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < size; i += page)
		m[i] = 1;
	report("page fault", start, size / page);

	if (pipe(there) || pipe(back))
		return;
	pid = fork();
	if (pid == 0)
		echo_bytes(there[0], back[1]);
	start = now();
	for (int i = 0; i < 5000; i++)
		if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
			break;
	report("pipe round trip", start, 5000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void show(const char *path)
{
	char buf[4096];
	int n, fd = open(path, O_RDONLY);

	while (fd >= 0 && (n = read(fd, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, n, stdout);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[argc - 1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(what, "nothing"))
		return 0;
	if (getpid() != 1) {
		bench();
		return 0;
	}
	printf("init: up\n");
	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	if (!strcmp(what, "bench"))
		bench();
	if (!strcmp(what, "info")) {
		show("/proc/version");
		show("/proc/cmdline");
		show("/proc/cpuinfo");
		show("/proc/meminfo");
		show("/proc/filesystems");
		show("/proc/partitions");
	}
	if (!strcmp(what, "exit"))
		return 3;
	if (!strcmp(what, "panic"))
		raise(SIGSEGV), abort();
	if (!strcmp(what, "restart"))
		reboot(RB_AUTOBOOT);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
