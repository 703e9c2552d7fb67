#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOKEN "/host/etc/kios-e2e/token"
#define SHELL_PORT "ttyS0"
#define AGENT_PORT "/host/dev/ttyS1"
/* Both ports appear as their driver is loaded, the first a little before the second. */
#define SECOND_PORT_MS 2000

static char token[64];

static void end(int signal)
{
	(void)signal;
	_exit(0);
}

static void run_shell(int device)
{
	char *const arguments[] = {"-sh", NULL};
	char *const environment[] = {"PATH=/bin", "HOME=/", "TERM=vt100", "PS1=kios# ", NULL};
	pid_t shell = fork();

	if (!shell) {
		signal(SIGTERM, SIG_DFL);
		setsid();
		ioctl(device, TIOCSCTTY, 1);
		dup2(device, 0);
		dup2(device, 1);
		dup2(device, 2);
		execve("/bin/sh", arguments, environment);
		_exit(127);
	}
	while (waitpid(shell, NULL, 0) < 0 && errno == EINTR)
		;
}

static int told_to;

/* In one call, and with line ends on both sides: it stands between the lines of whoever else writes. */
static void tell_in_line(const struct end *end)
{
	char line[2048];

	snprintf(line, sizeof(line), "\r\nkios-e2e %s: container %s of pod %s/%s ended with status %s: %s\r\n", token,
		 end->container, end->namespace, end->pod, end->status, end->words);
	(void)!write(told_to, line, strlen(line));
}

/* Where there is no second port, the first has to do for both. */
static void tell_ends_on(int device)
{
	char line[128];
	int watch = ends_watch();

	told_to = device;
	snprintf(line, sizeof(line), "\r\nkios-e2e %s: the console is open\r\n", token);
	(void)!write(device, line, strlen(line));
	ends_tell_past(tell_in_line);
	for (;;)
		ends_read(watch, tell_in_line);
}

/* Arguments: `agent` leaves the first port to another pod. */
int main(int count, char **arguments)
{
	int shares = count > 1 && !strcmp(arguments[1], "agent");
	int first, second;

	signal(SIGTERM, end);
	setenv("PATH", "/bin", 1);
	setenv("HOME", "/", 1);
	load_driver();
	read_text(TOKEN, token, sizeof(token));
	first = open_when_there("/host/dev", SHELL_PORT);
	second = first < 0 ? -1 : open_within(AGENT_PORT, SECOND_PORT_MS);
	if (first < 0 || (shares && second < 0)) {
		fprintf(stderr, "there is no serial port to serve\n");
		return 1;
	}
	if (shares)
		close(first);
	else if (!fork()) {
		for (;;)
			run_shell(first);
	}
	if (second >= 0)
		serve(second, token);
	tell_ends_on(first);
}
