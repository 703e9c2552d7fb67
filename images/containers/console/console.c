/*
 * A root shell on the node's serial port, as a container, that also tells there how containers end.
 *
 * The port's driver is a module, so this has the host's modprobe load it (the host's root is mounted at /host), waits for
 * the device to appear, makes it the controlling terminal of a shell, and starts the next shell when one ends. Beside it,
 * each container's end is written to the port as a line, with the container's last words: a node without a network could
 * not tell otherwise why it has none.
 */
#define _GNU_SOURCE
#include <dirent.h>
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

/* conmon writes a container's exit status to a file here, named by the container's id. */
#define EXITS "/host/var/run/crio/exits"
/* Where CRI-O keeps what it knows of them: its runroot, which differs between kiOS's generations. */
static const char *const CONTAINERS[] = {"/host/run/containers/storage/overlay-containers",
					 "/host/var/run/containers/storage/overlay-containers",
					 "/host/var/lib/containers/storage/overlay-containers"};

static void end(int signal)
{
	(void)signal;
	_exit(0);
}

/* Not an init container's work: each costs an emulated node seconds. Loading what is loaded already does nothing. */
static void load_driver(void)
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

static void read_text(const char *path, char *text, size_t size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? 0 : read(file, text, size - 1);

	text[length > 0 ? length : 0] = 0;
	if (file >= 0)
		close(file);
}

/* The value of a string in CRI-O's JSON, which escapes nothing in the names and paths that are asked for here. */
static void value_of(const char *json, const char *key, char *value, size_t size)
{
	char quoted[128];
	const char *at;
	size_t length = 0;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(json, quoted);
	if (at) {
		at += strlen(quoted);
		at += strspn(at, " \"");
		length = strcspn(at, "\"");
	}
	snprintf(value, size, "%.*s", (int)length, at ? at : "");
}

/* The text of the last line of a log in CRI format: TIME STREAM TAG TEXT. */
static void last_words(const char *path, char *words, size_t size)
{
	char place[1024], tail[1024];
	int file;
	ssize_t length;
	char *line;

	snprintf(place, sizeof(place), "/host%s", path);
	*words = 0;
	file = open(place, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return;
	lseek(file, -(off_t)(sizeof(tail) - 1), SEEK_END);
	length = read(file, tail, sizeof(tail) - 1);
	close(file);
	if (length <= 0)
		return;
	tail[length] = 0;
	if (tail[length - 1] == '\n')
		tail[length - 1] = 0;
	line = strrchr(tail, '\n');
	line = line ? line + 1 : tail;
	for (int i = 0; i < 3 && line; i++) {
		line = strchr(line, ' ');
		line = line ? line + 1 : NULL;
	}
	snprintf(words, size, "%s", line ? line : "");
}

static void tell_end_of(const char *id, int device)
{
	static char config[256 << 10];
	char path[512], status[16], name[128], pod[256], namespace[128], log[512], words[512], line[2048];

	*config = 0;
	for (size_t i = 0; i < sizeof(CONTAINERS) / sizeof(*CONTAINERS) && !*config; i++) {
		snprintf(path, sizeof(path), "%s/%s/userdata/config.json", CONTAINERS[i], id);
		read_text(path, config, sizeof(config));
	}
	value_of(config, "io.kubernetes.container.name", name, sizeof(name));
	if (!*name || !strcmp(name, "POD"))
		return;
	snprintf(path, sizeof(path), "%s/%s", EXITS, id);
	read_text(path, status, sizeof(status));
	value_of(config, "io.kubernetes.pod.name", pod, sizeof(pod));
	value_of(config, "io.kubernetes.pod.namespace", namespace, sizeof(namespace));
	value_of(config, "io.kubernetes.cri-o.LogPath", log, sizeof(log));
	last_words(log, words, sizeof(words));
	/* In one call, and with line ends on both sides: it stands between the lines of whoever else writes. */
	snprintf(line, sizeof(line), "\r\nkios-e2e: container %s of pod %s/%s ended with status %s: %s\r\n", name, namespace, pod,
		 status, words);
	(void)!write(device, line, strlen(line));
}

static void tell_ends(int device)
{
	static const char open_line[] = "\r\nkios-e2e: the console is open\r\n";
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	int watch = inotify_init1(IN_CLOEXEC);
	struct dirent *entry;
	DIR *exits;
	ssize_t length;

	(void)!write(device, open_line, strlen(open_line));
	if (watch < 0 || inotify_add_watch(watch, EXITS, IN_MOVED_TO) < 0)
		return;
	exits = opendir(EXITS);
	while (exits && (entry = readdir(exits)))
		if (*entry->d_name != '.')
			tell_end_of(entry->d_name, device);
	while ((length = read(watch, events, sizeof(events))) > 0)
		for (char *at = events; at < events + length;) {
			struct inotify_event *event = (struct inotify_event *)at;

			/* conmon renames what it has written: under its own name the file is whole. */
			if (event->len && *event->name != '.')
				tell_end_of(event->name, device);
			at += sizeof(*event) + event->len;
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
	int device;

	signal(SIGTERM, end);
	load_driver();
	device = open_when_there("/host/dev", name);
	if (device < 0) {
		perror(name);
		return 1;
	}
	if (!fork()) {
		tell_ends(device);
		_exit(1);
	}
	for (;;)
		run_shell(device);
}
