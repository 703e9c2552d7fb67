#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* Not an init container's work: each costs an emulated node seconds. Loading what is loaded already does nothing. */
void load_driver(void)
{
	pid_t loader = fork();

	if (!loader) {
		if (!chroot("/host") && !chdir("/"))
			execl("/bin/modprobe", "modprobe", "8250", NULL);
		_exit(127);
	}
	while (waitpid(loader, NULL, 0) < 0 && errno == EINTR)
		;
}

static int open_port(const char *path)
{
	int device = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	struct termios settings;

	/* ports without hardware open too, and fail here with EIO */
	if (device >= 0 && tcgetattr(device, &settings)) {
		close(device);
		return -1;
	}
	if (device >= 0)
		fcntl(device, F_SETFL, O_RDWR);
	return device;
}

int open_when_there(const char *folder, const char *name)
{
	char path[256], events[4096];
	int watch = inotify_init1(IN_CLOEXEC), device;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (watch < 0 || inotify_add_watch(watch, folder, IN_CREATE | IN_ATTRIB) < 0)
		return -1;
	while ((device = open_port(path)) < 0)
		if (read(watch, events, sizeof(events)) <= 0)
			break;
	close(watch);
	return device;
}

int open_within(const char *path, int milliseconds)
{
	int device;

	while ((device = open_port(path)) < 0 && milliseconds > 0) {
		poll(NULL, 0, 50);
		milliseconds -= 50;
	}
	return device;
}

void make_raw(int device)
{
	struct termios settings;

	if (tcgetattr(device, &settings))
		return;
	cfmakeraw(&settings);
	/* A slow port makes its device wait longer for more before it says that a byte is there. */
	cfsetspeed(&settings, B115200);
	settings.c_cflag |= CLOCAL | CREAD;
	settings.c_cc[VMIN] = 1;
	settings.c_cc[VTIME] = 0;
	tcsetattr(device, TCSAFLUSH, &settings);
}

void read_text(const char *path, char *text, size_t size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? 0 : read(file, text, size - 1);

	text[length > 0 ? length : 0] = 0;
	if (file >= 0)
		close(file);
}
