/*
 * What containers do with files: files DIRECTORY MEGABYTES FILES. Prints a line for each kind
 * of work: its name and the seconds that it took. Static, so that it runs in any image.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (1 << 20)
#define PAGE 4096
/* Files in a directory. */
#define FAN 100

static struct timespec begun;

static void begin(void)
{
	clock_gettime(CLOCK_MONOTONIC, &begun);
}

static void end(const char *what)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("%s %.6f\n", what,
	       now.tv_sec - begun.tv_sec + (now.tv_nsec - begun.tv_nsec) / 1e9);
}

static int open_or_fail(const char *path, int flags)
{
	int file = open(path, flags, 0644);

	if (file < 0)
		err(1, "%s", path);
	return file;
}

/* The same places on every run. */
static unsigned int next(void)
{
	static unsigned int state = 12345;

	state = state * 1103515245 + 12345;
	return state >> 8;
}

static void large(long megabytes)
{
	static char block[BLOCK];
	long pages = megabytes * (BLOCK / PAGE);
	int file = open_or_fail("large", O_RDWR | O_CREAT | O_TRUNC);

	memset(block, 'x', sizeof(block));
	begin();
	for (long i = 0; i < megabytes; i++)
		if (write(file, block, BLOCK) != BLOCK)
			err(1, "write");
	if (fsync(file))
		err(1, "fsync");
	end("sequential-write");
	/* From the disk's side: what this system has of it in memory is dropped. */
	posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	begin();
	for (long i = 0; i < megabytes; i++)
		if (pread(file, block, BLOCK, i * BLOCK) != BLOCK)
			err(1, "read");
	end("sequential-read");
	posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	begin();
	for (long i = 0; i < pages / 8; i++)
		if (pread(file, block, PAGE, (off_t)(next() % pages) * PAGE) != PAGE)
			err(1, "read");
	end("random-read");
	begin();
	for (long i = 0; i < pages / 8; i++)
		if (pwrite(file, block, PAGE, (off_t)(next() % pages) * PAGE) != PAGE)
			err(1, "write");
	if (fsync(file))
		err(1, "fsync");
	end("random-write");
	begin();
	for (int i = 0; i < 200; i++)
		if (pwrite(file, block, PAGE, (off_t)(next() % pages) * PAGE) != PAGE ||
		    fdatasync(file))
			err(1, "write");
	end("synced-write");
	close(file);
	unlink("large");
}

static void name(char *path, long number)
{
	sprintf(path, "d%ld/f%ld", number / FAN, number);
}

static void small(long files)
{
	char path[64], content[2048];
	struct stat stat_of;

	memset(content, 'y', sizeof(content));
	/* As unpacking an archive does. */
	begin();
	for (long i = 0; i < files; i++) {
		if (i % FAN == 0) {
			sprintf(path, "d%ld", i / FAN);
			if (mkdir(path, 0755))
				err(1, "%s", path);
		}
		name(path, i);
		int file = open_or_fail(path, O_WRONLY | O_CREAT | O_EXCL);

		if (write(file, content, 200 + i % 1800) < 0)
			err(1, "write");
		close(file);
	}
	end("create-files");
	/* As `git status` does. */
	begin();
	for (int round = 0; round < 3; round++)
		for (long i = 0; i < files; i++) {
			name(path, i);
			if (lstat(path, &stat_of))
				err(1, "%s", path);
		}
	end("stat-files");
	begin();
	for (long i = 0; i < files; i++) {
		name(path, i);
		int file = open_or_fail(path, O_RDONLY);

		if (read(file, content, sizeof(content)) < 0)
			err(1, "read");
		close(file);
	}
	end("read-files");
	begin();
	for (long i = 0; i < files; i++) {
		name(path, i);
		if (unlink(path))
			err(1, "%s", path);
		if (i % FAN == FAN - 1 || i == files - 1) {
			sprintf(path, "d%ld", i / FAN);
			if (rmdir(path))
				err(1, "%s", path);
		}
	}
	end("remove-files");
}

int main(int argc, char **argv)
{
	if (argc != 4)
		errx(2, "usage: files DIRECTORY MEGABYTES FILES");
	if ((mkdir(argv[1], 0755) && access(argv[1], W_OK)) || chdir(argv[1]))
		err(1, "%s", argv[1]);
	large(atol(argv[2]));
	small(atol(argv[3]));
	return 0;
}
