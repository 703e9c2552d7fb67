/*
 * A root shell on the node's serial port, as a container.
 *
 * The port has no driver until a modprobe container loads it, so this waits for the device to appear under the host's
 * /dev (mounted at /host/dev), makes it the controlling terminal of a shell, and starts the next shell when one ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static void end(int signal)
{
	(void)signal;
	_exit(0);
}

static int open_when_there(const char *folder, const char *name)
{
	char path[256], events[4096];
	int watch = inotify_init1(IN_CLOEXEC);

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (watch < 0 || inotify_add_watch(watch, folder, IN_CREATE | IN_ATTRIB) < 0)
		return -1;
	for (;;) {
		int device = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		struct termios settings;

		/* ports without hardware open too, and fail here with EIO */
		if (device >= 0 && !tcgetattr(device, &settings)) {
			fcntl(device, F_SETFL, O_RDWR);
			close(watch);
			return device;
		}
		if (device >= 0)
			close(device);
		if (read(watch, events, sizeof(events)) <= 0)
			return -1;
	}
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

int main(int count, char **arguments)
{
	const char *name = count > 1 ? arguments[1] : "ttyS0";

	signal(SIGTERM, end);
	for (;;) {
		int device = open_when_there("/host/dev", name);

		if (device < 0) {
			perror(name);
			return 1;
		}
		run_shell(device);
		close(device);
	}
}
