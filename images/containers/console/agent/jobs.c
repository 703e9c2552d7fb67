#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Nothing that a shell would do more with than to split it at its blanks. */
#define PLAIN "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:@%+,- "
#define WORDS 64

enum state { FREE, RUNS, READS, WRITES, GONE };

struct job {
	enum state state;
	uint16_t number;
	pid_t pid;
	int file;
	int exited, status;
	char *path, *making;
};

static struct job jobs[JOBS];
static char *asked;
static size_t asked_length;
static int ended;

void jobs_open(void)
{
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	/* No handler: a write to the port that a signal interrupts would let others write into a frame. */
	sigprocmask(SIG_BLOCK, &chld, NULL);
	ended = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	if (ended < 0)
		_exit(1);
}

static struct job *known(uint16_t number)
{
	for (struct job *job = jobs; job < jobs + JOBS; job++)
		if (job->state != FREE && job->state != GONE && job->number == number)
			return job;
	return NULL;
}

static void release(struct job *job)
{
	if (job->file >= 0)
		close(job->file);
	free(job->path);
	free(job->making);
	*job = (struct job){.file = -1};
}

static struct job *fresh(uint16_t number)
{
	struct job *found = NULL;

	for (struct job *job = jobs; job < jobs + JOBS && (!found || found->state != FREE); job++)
		if (job->state == FREE || (job->state == GONE && !found))
			found = job;
	if (found) {
		if (found->state != FREE)
			release(found);
		*found = (struct job){.number = number, .file = -1};
	}
	return found;
}

static void say(uint16_t number, int32_t status, const char *words)
{
	char payload[sizeof(status) + 256];
	size_t length = strnlen(words, 256);

	memcpy(payload, &status, sizeof(status));
	memcpy(payload + sizeof(status), words, length);
	link_send(STATUS, number, payload, sizeof(status) + length);
}

static void fail(struct job *job, int error)
{
	say(job->number, error, strerror(error));
	if (job->making)
		unlink(job->making);
	release(job);
}

static void execute(const char *text)
{
	/* A shell that only starts one program is a second program to load. */
	if (text[strspn(text, PLAIN)] == 0) {
		char *copy = strdup(text), *words[WORDS + 1], *rest = copy;
		int count = 0;

		while (count < WORDS && (words[count] = strtok_r(rest, " ", &rest)))
			count++;
		words[count] = NULL;
		if (count && count < WORDS)
			execvp(words[0], words);
	}
	execl("/bin/sh", "sh", "-c", text, NULL);
	_exit(127);
}

static void run(struct job *job, const char *text)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC)) {
		fail(job, errno);
		return;
	}
	job->pid = fork();
	if (!job->pid) {
		int nothing = open("/dev/null", O_RDONLY);

		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGTERM, SIG_DFL);
		setsid();
		dup2(nothing, 0);
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		close(nothing);
		execute(text);
	}
	close(ends[1]);
	job->file = ends[0];
	fcntl(job->file, F_SETFL, O_NONBLOCK);
	if (job->pid < 0) {
		fail(job, errno);
		return;
	}
	job->state = RUNS;
}

static void make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(path, 0755);
		*slash = '/';
	}
}

static void begin_write(struct job *job, const char *path)
{
	const char *name = strrchr(path, '/');

	job->path = strdup(path);
	if (!name || asprintf(&job->making, "%.*s.%s.making", (int)(name + 1 - path), path, name + 1) < 0) {
		job->making = NULL;
		fail(job, EINVAL);
		return;
	}
	make_parents(job->making);
	/* A name with a dot before it is no manifest to the kubelet (its file source). */
	job->file = open(job->making, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	job->state = WRITES;
	if (job->file < 0)
		fail(job, errno);
}

static void job_begin(enum kind kind, uint16_t number, const char *text)
{
	struct job *job = fresh(number);

	if (!job) {
		say(number, EAGAIN, "too many commands run at once");
		return;
	}
	if (kind == RUN) {
		run(job, text);
		return;
	}
	if (kind == WRITE) {
		begin_write(job, text);
		return;
	}
	job->file = open(text, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	job->state = READS;
	if (job->file < 0)
		fail(job, errno);
}

static void job_write(struct job *job, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t done = write(job->file, data, length);

		if (done < 0) {
			fail(job, errno);
			return;
		}
		data += done;
		length -= done;
	}
}

static void end_write(struct job *job)
{
	if (close(job->file) || rename(job->making, job->path)) {
		int error = errno;

		job->file = -1;
		fail(job, error);
		return;
	}
	job->file = -1;
	say(job->number, 0, "");
	release(job);
}

/* Its whole session; and itself, which may have none yet. */
static void end(const struct job *job)
{
	if (job->exited)
		return;
	kill(-job->pid, SIGKILL);
	kill(job->pid, SIGKILL);
}

static void job_kill(const struct job *job)
{
	if (job && job->state == RUNS)
		end(job);
}

void jobs_forget(void)
{
	asked_length = 0;
	for (struct job *job = jobs; job < jobs + JOBS; job++)
		if (job->state == RUNS) {
			end(job);
			job->state = GONE;
		} else if (job->state == READS || job->state == WRITES) {
			if (job->making)
				unlink(job->making);
			release(job);
		}
}

static void reap(void)
{
	struct signalfd_siginfo told;
	int status;
	pid_t pid;

	while (read(ended, &told, sizeof(told)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct job *job = jobs; job < jobs + JOBS; job++)
			if (job->state == RUNS && job->pid == pid && !job->exited) {
				job->exited = 1;
				job->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			}
}

void jobs_poll(struct pollfd *polled)
{
	polled[0] = (struct pollfd){.fd = ended, .events = POLLIN};
	for (int i = 0; i < JOBS; i++) {
		struct job *job = jobs + i;
		int reads = job->state == GONE || ((job->state == RUNS || job->state == READS) && link_has_room());

		polled[i + 1] = (struct pollfd){.fd = reads ? job->file : -1, .events = POLLIN};
	}
}

/* One piece of what a job has to say; whether there may be more at once. */
static int tell(struct job *job)
{
	uint8_t data[PAYLOAD];
	ssize_t length = read(job->file, data, sizeof(data));

	if (length > 0 && job->state != GONE)
		link_send(OUTPUT, job->number, data, length);
	if (length > 0)
		return 1;
	if (length < 0 && errno == EINTR)
		return 1;
	if (job->state == READS && length < 0 && errno != EAGAIN) {
		fail(job, errno);
		return 0;
	}
	if (job->state == READS && !length) {
		say(job->number, 0, "");
		release(job);
		return 0;
	}
	if (job->state == GONE && !length) {
		release(job);
		return 0;
	}
	if (job->state == RUNS && job->exited) {
		say(job->number, job->status, "");
		/* Whom the command left behind may go on writing; nobody reads that any more. */
		job->state = GONE;
		if (!length)
			release(job);
	} else if (job->state == RUNS && !length) {
		/* It has closed its output, and runs on. */
		close(job->file);
		job->file = -1;
	}
	return 0;
}

void jobs_tend(const struct pollfd *polled)
{
	if (polled[0].revents)
		reap();
	for (int i = 0; i < JOBS; i++) {
		struct job *job = jobs + i;

		if (job->state == RUNS && job->exited && job->file < 0) {
			say(job->number, job->status, "");
			release(job);
			continue;
		}
		if (job->state == FREE || job->file < 0 || !(polled[i + 1].revents || (job->state == RUNS && job->exited)))
			continue;
		while ((job->state == GONE || link_has_room()) && job->file >= 0 && tell(job))
			;
	}
}

void jobs_take(enum kind kind, uint16_t number, const uint8_t *payload, size_t length)
{
	struct job *job = known(number);

	switch (kind) {
	case RUN:
	case READ:
	case WRITE:
		asked = realloc(asked, asked_length + length + 1);
		if (!asked)
			_exit(1);
		memcpy(asked + asked_length, payload, length);
		asked_length += length;
		asked[asked_length] = 0;
		/* A full frame has more behind it. */
		if (length == PAYLOAD)
			return;
		asked_length = 0;
		job_begin(kind, number, asked);
		return;
	case DATA:
		if (job && job->state == WRITES)
			job_write(job, payload, length);
		if (job && job->state == WRITES && length < PAYLOAD)
			end_write(job);
		return;
	case KILL:
		job_kill(job);
		return;
	default:
		return;
	}
}
