/*
 * PID 1 of the reference node, written from the contract of a kiOS node.
 *
 * It prepares the mounts, keeps CRI-O and the kubelet running with their output in two FIFOs, answers /run/system.sock, and
 * ends in a power-off with every disk unmounted clean. What it says, it says through the kernel's log, as "kiOS: ...", since a
 * node has no other console at that time. Its words, its name and its silences are those of kiOS's own init: what goes well
 * has no line, and neither has a daemon that starts. That the socket serves one client at a time, and that a node without a
 * kubelet never ends, are kiOS's as well.
 */
#define _GNU_SOURCE
#include "init.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CRIO_SOCKET "/var/run/crio/crio.sock"
#define SYSTEM_SOCKET "/run/system.sock"
#define WAITING_CLIENTS 8

enum command { SHUT_DOWN = 1, CONTINUE_SHUTDOWN = 2, RESTART_KUBELET = 3, RESTART_CRIO = 4 };
enum event { SHUTDOWN_REQUESTED = 1 };

static const int64_t PROCESS_GRACE_MS = 3000;

struct daemon {
	const char *fifo;
	char *argv[20];
	const char *farewell;
	pid_t pid;
};

static struct daemon crio = {.fifo = "/var/run/crio.log",
			     .argv = {"/bin/crio", "--runtimes", "crun:/bin/crun:/var/run/crun:oci", "--cgroup-manager",
				      "cgroupfs", "--default-runtime", "crun", "--listen", CRIO_SOCKET, "--conmon",
				      "/bin/conmon", "--conmon-cgroup", "pod", "--pinns-path", "/bin/pinns"},
			     .farewell = "crio has exited! Restarting..."};
static struct daemon kubelet = {
	.fifo = "/var/run/kubelet.log",
	.argv = {"/bin/kubelet", "--config", "/etc/kubernetes/config.yaml"},
	.farewell = "kubelet has exited! Restarting"};
enum { KUBELET_ARGUMENTS = 3 };

static int client = -1;
static bool shutdown_requested, shutdown_continued;

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};

	nanosleep(&time, NULL);
}

static void write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		say(WARNING, "cannot write %s: %s", path, strerror(errno));
	if (file >= 0)
		close(file);
}

static void start_network(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int channel = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	request.ifr_flags = IFF_UP | IFF_RUNNING;
	if (channel < 0 || ioctl(channel, SIOCSIFFLAGS, &request))
		say(WARNING, "cannot bring lo up: %s", strerror(errno));
	if (channel >= 0)
		close(channel);
	for (const char *const *path = forwarding; *path; path++)
		write_file(*path, "1");
}

/* As in kiOS, the file's first line is the name: a newline at its end would be part of it. */
static void apply_hostname(void)
{
	char name[65] = "";
	FILE *file = fopen("/etc/hostname", "re");

	if (file && fgets(name, sizeof(name), file) && sethostname(name, strlen(name)))
		say(WARNING, "cannot apply /etc/hostname: %s", strerror(errno));
	if (file)
		fclose(file);
}

/* Open for both directions: a reader that goes away does not kill the daemon, and the kernel keeps 64 KiB for the next. */
static void write_to_fifo(const char *fifo)
{
	int output;

	mkfifo(fifo, 0700);
	output = open(fifo, O_RDWR | O_NONBLOCK);
	dup2(output, 1);
	dup2(output, 2);
	close(output);
}

static void start(struct daemon *daemon)
{
	daemon->pid = fork();
	if (daemon->pid < 0) {
		say(WARNING, "cannot start %s: %s", daemon->argv[0], strerror(errno));
	} else if (!daemon->pid) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setsid();
		dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
		write_to_fifo(daemon->fifo);
		execv(daemon->argv[0], daemon->argv);
		say(WARNING, "cannot execute %s: %s", daemon->argv[0], strerror(errno));
		_exit(127);
	}
}

/* Lines of `name: value`, with comments, as the kubelet's flag has them: name=value,name=value. */
static void read_labels(char *labels, size_t size)
{
	FILE *file = fopen("/etc/kubernetes/node-labels", "re");
	char line[300], name[128], value[128];
	size_t used = 0;

	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "#")] = 0;
		if (sscanf(line, " %127[^: \t\n] : %127s", name, value) == 2 && used < size)
			used += (size_t)snprintf(labels + used, size - used, "%s%s=%s", used ? "," : "", name, value);
	}
	if (file)
		fclose(file);
}

/* What is there as it starts: a file that comes later counts from the next start on. */
static void start_kubelet(void)
{
	static char *optional[][2] = {{"--kubeconfig", "/etc/kubernetes/kubelet.conf"},
				      {"--bootstrap-kubeconfig", "/etc/kubernetes/bootstrap-kubelet.conf"}};
	static char labels[2000];
	int count = KUBELET_ARGUMENTS;

	for (char *const *option = kubelet_options; *option; option++)
		kubelet.argv[count++] = *option;
	labels[0] = 0;
	read_labels(labels, sizeof(labels));
	if (labels[0]) {
		kubelet.argv[count++] = "--node-labels";
		kubelet.argv[count++] = labels;
	}
	for (size_t i = 0; i < sizeof(optional) / sizeof(*optional); i++)
		if (!access(optional[i][1], F_OK)) {
			kubelet.argv[count++] = optional[i][0];
			kubelet.argv[count++] = optional[i][1];
		}
	kubelet.argv[count] = NULL;
	apply_hostname();
	start(&kubelet);
}

static void reap(void)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
		if (pid == crio.pid) {
			say(WARNING, "%s", crio.farewell);
			start(&crio);
		} else if (pid == kubelet.pid) {
			say(WARNING, "%s", kubelet.farewell);
			start_kubelet();
		}
	}
}

static bool crio_answers(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = CRIO_SOCKET};
	int channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool answers = !connect(channel, (struct sockaddr *)&address, sizeof(address));

	close(channel);
	return answers;
}

static void start_daemons(void)
{
	start(&crio);
	while (!crio_answers()) {
		reap();
		pause_ms(20);
	}
	start_kubelet();
}

static int listen_for_commands(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SYSTEM_SOCKET};
	int channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(channel, (struct sockaddr *)&address, sizeof(address)) || listen(channel, WAITING_CLIENTS))
		say(WARNING, "cannot listen on %s: %s", SYSTEM_SOCKET, strerror(errno));
	return channel;
}

/* The kubelet says when to go on; where none is connected, nobody does. */
static void request_shutdown(void)
{
	uint8_t event = SHUTDOWN_REQUESTED;

	say(NOTICE, "System Shutdown Requested.");
	say(INFO, "Waiting for kubelet graceful shutdown");
	shutdown_requested = true;
	if (client >= 0)
		(void)!send(client, &event, 1, MSG_NOSIGNAL);
}

static void stop(const struct daemon *daemon)
{
	if (daemon->pid > 0)
		kill(daemon->pid, SIGTERM);
}

static void obey(uint8_t command)
{
	switch (command) {
	case SHUT_DOWN:
		request_shutdown();
		break;
	case CONTINUE_SHUTDOWN:
		shutdown_continued = shutdown_requested;
		if (shutdown_continued)
			say(INFO, "Kubelet graceful shutdown complete");
		break;
	case RESTART_KUBELET:
		stop(&kubelet);
		break;
	case RESTART_CRIO:
		stop(&crio);
		break;
	}
}

static void read_client(void)
{
	uint8_t command;

	if (read(client, &command, 1) == 1) {
		obey(command);
	} else {
		close(client);
		client = -1;
	}
}

/* One client at a time: whoever connects while one is served waits until that one hangs up. */
static void run(int signals, int listener)
{
	while (!shutdown_continued) {
		struct pollfd ready[] = {{.fd = signals, .events = POLLIN},
					 {.fd = client < 0 ? listener : client, .events = POLLIN}};

		poll(ready, 2, -1);
		if (ready[0].revents) {
			struct signalfd_siginfo signal;

			if (read(signals, &signal, sizeof(signal)) == sizeof(signal) && signal.ssi_signo == SIGTERM)
				request_shutdown();
		}
		reap();
		if (ready[1].revents && client >= 0)
			read_client();
		else if (ready[1].revents)
			client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	}
}

static bool all_gone_within(int64_t ms)
{
	int64_t deadline = now_ms() + ms;

	while (now_ms() < deadline) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0 && errno == ECHILD)
			return true;
		if (!pid)
			pause_ms(10);
	}
	return false;
}

static void end_processes(void)
{
	say(WARNING, "System shutting down");
	kill(-1, SIGTERM);
	if (all_gone_within(PROCESS_GRACE_MS))
		return;
	kill(-1, SIGKILL);
	if (!all_gone_within(PROCESS_GRACE_MS))
		say(WARNING, "some processes could not be killed");
}

/* As ps and /proc/1/cmdline show it; the file is not needed any more, and its memory is the node's. */
static void take_name(char *const *arguments)
{
	size_t room = strlen(arguments[0]) + 1;

	prctl(PR_SET_NAME, "kiOS");
	snprintf(arguments[0], room, "kiOS");
	unlink("/init");
}

int main(int count, char **arguments)
{
	sigset_t handled;
	int signals, listener;

	(void)count;
	leave_rootfs();
	mount_system();
	take_name(arguments);
	say(NOTICE, "kiOS Init");
	sigemptyset(&handled);
	sigaddset(&handled, SIGCHLD);
	sigaddset(&handled, SIGTERM);
	sigprocmask(SIG_BLOCK, &handled, NULL);
	signals = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
	setenv("PATH", "/bin", 1);
	setenv("HOME", "/", 1);

	mount_state();
	start_network();
	listener = listen_for_commands();
	start_daemons();
	run(signals, listener);

	end_processes();
	sync();
	unmount_all();
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause_ms(1000);
}
