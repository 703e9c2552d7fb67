/*
 * PID 1 of the reference node, written from the contract of a kiOS node.
 *
 * It prepares the mounts, finds the data partition, keeps CRI-O and the kubelet running with their output in two FIFOs,
 * answers /run/system.sock, and ends in a power-off with the data partition unmounted clean. What it says, it says through
 * the kernel's log, as "kiOS: ...", since a node has no other console at that time. Its words, its name and its silences are
 * those of kiOS's own init: what goes well has no line, and neither has a daemon that starts.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DATA "/datapart"
#define CRIO_SOCKET "/var/run/crio/crio.sock"
#define SYSTEM_SOCKET "/run/system.sock"
#define MAX_CLIENTS 8

/* 97aac693-d920-465a-94fe-eb59fc86dfaa, in the mixed-endian form in which GPT stores it (UEFI 2.10, appendix A) */
static const uint8_t DATA_TYPE[16] = {0x93, 0xc6, 0xaa, 0x97, 0x20, 0xd9, 0x5a, 0x46,
				      0x94, 0xfe, 0xeb, 0x59, 0xfc, 0x86, 0xdf, 0xaa};

enum command { SHUT_DOWN = 1, CONTINUE_SHUTDOWN = 2, RESTART_KUBELET = 3, RESTART_CRIO = 4 };
enum event { SHUTDOWN_REQUESTED = 1 };

/* How long an orderly end may take before the next, less orderly step: the kubelet's own grace periods end before. */
static const int64_t PODS_GRACE_MS = 90000;
static const int64_t PROCESS_GRACE_MS = 3000;

struct daemon {
	const char *fifo;
	char *argv[16];
	const char *farewell;
	pid_t pid;
	int output;
};

static struct daemon crio = {.fifo = "/var/run/crio.log",
			     .argv = {"/bin/crio"},
			     .farewell = "crio has exited! Restarting..."};
static struct daemon kubelet = {.fifo = "/var/run/kubelet.log",
				.argv = {"/bin/kubelet", "--config", "/etc/kubernetes/config.yaml"},
				.farewell = "kubelet has exited! Restarting"};

static int clients[MAX_CLIENTS];
static int client_count;
static int64_t shutdown_deadline = -1;
static bool shutdown_continued;

/* Without a line end, as kiOS's init does it: the kernel keeps a record back until the next one comes. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	char line[512] = "<4>kiOS: ";
	va_list arguments;
	int log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	va_start(arguments, format);
	vsnprintf(line + strlen(line), sizeof(line) - strlen(line), format, arguments);
	va_end(arguments);
	if (log >= 0) {
		(void)!write(log, line, strlen(line));
		close(log);
	}
}

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

static void mount_or_say(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
	mkdir(target, 0755);
	if (mount(source, target, type, flags, data))
		say("cannot mount %s on %s: %s", type ? type : source, target, strerror(errno));
}

/* Containers pivot their root, which the kernel refuses while "/" is the initial rootfs: put a mount over it. */
static void leave_rootfs(void)
{
	if (mount("/", "/run", NULL, MS_BIND, NULL) || chdir("/run") || mount(".", "/", NULL, MS_MOVE, NULL) ||
	    chroot(".") || chdir("/"))
		say("cannot move the root: %s", strerror(errno));
}

static void mount_system(void)
{
	static const char *const in_memory[] = {"/run", "/tmp", "/var/cache", "/var/tmp", "/var/run", "/var/lib/kubelet"};

	mount_or_say("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_say("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_say("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
	mount_or_say("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666");
	mount_or_say("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_or_say("securityfs", "/sys/kernel/security", "securityfs", 0, NULL);
	mount_or_say("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	for (size_t i = 0; i < sizeof(in_memory) / sizeof(*in_memory); i++)
		mount_or_say("tmpfs", in_memory[i], "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
	if (mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL))
		say("cannot share the mounts: %s", strerror(errno));
}

/* The number of the data partition in the GPT of a disk, 0 if it has none. */
static int data_partition_of(int disk)
{
	uint8_t header[92], entry[16];
	uint64_t entries;
	uint32_t count, size;
	int block = 0;

	if (ioctl(disk, BLKSSZGET, &block) || pread(disk, header, sizeof(header), block) != sizeof(header) ||
	    memcmp(header, "EFI PART", 8))
		return 0;
	memcpy(&entries, header + 72, 8);
	memcpy(&count, header + 80, 4);
	memcpy(&size, header + 84, 4);
	for (uint32_t i = 0; i < count && i < 128; i++) {
		off_t at = (off_t)(entries * (uint64_t)block + (uint64_t)i * size);
		if (pread(disk, entry, sizeof(entry), at) != sizeof(entry))
			return 0;
		if (!memcmp(entry, DATA_TYPE, sizeof(entry)))
			return (int)i + 1;
	}
	return 0;
}

static bool scan_for_data(char *found, size_t size)
{
	DIR *disks = opendir("/sys/block");
	struct dirent *disk;
	int number = 0;

	while (disks && !number && (disk = readdir(disks))) {
		const char *name = disk->d_name;
		char device[300];
		int file;

		snprintf(device, sizeof(device), "/dev/%s", name);
		file = open(device, O_RDONLY | O_CLOEXEC);
		if (file < 0)
			continue;
		number = data_partition_of(file);
		close(file);
		if (number) {
			bool digit = name[strlen(name) - 1] >= '0' && name[strlen(name) - 1] <= '9';
			snprintf(found, size, "/dev/%s%s%d", name, digit ? "p" : "", number);
		}
	}
	if (disks)
		closedir(disks);
	return number && !access(found, F_OK);
}

static bool named_on_command_line(char *found, size_t size)
{
	char line[4096] = "";
	int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return false;
	(void)!read(file, line, sizeof(line) - 1);
	close(file);
	for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"))
		if (!strncmp(word, "datapart=", 9)) {
			snprintf(found, size, "%s", word + 9);
			return true;
		}
	return false;
}

/* Disks appear while the kernel still probes them, so this looks again until there is one. */
static void mount_data(void)
{
	char device[300] = "";
	bool named = named_on_command_line(device, sizeof(device));

	while (named ? access(device, F_OK) != 0 : !scan_for_data(device, sizeof(device)))
		pause_ms(20);
	say("Using Datapart: ");
	say("%s", device);
	mkdir(DATA, 0755);
	if (mount(device, DATA, "ext4", 0, NULL))
		say("cannot mount the data partition %s: %s", device, strerror(errno));
}

static void mkdir_all(const char *path)
{
	char part[256];

	snprintf(part, sizeof(part), "%s", path);
	for (char *slash = part + 1; *slash; slash++)
		if (*slash == '/') {
			*slash = 0;
			mkdir(part, 0755);
			*slash = '/';
		}
	mkdir(part, 0755);
}

static void bind_data(const char *from, const char *to)
{
	mkdir_all(from);
	mkdir_all(to);
	mount_or_say(from, to, NULL, MS_BIND, NULL);
}

static void mount_layout(void)
{
	mkdir_all(DATA "/meta/etc");
	mkdir_all(DATA "/meta/.etc-work");
	mount_or_say("overlay", "/etc", "overlay", 0,
		     "lowerdir=/etc,upperdir=" DATA "/meta/etc,workdir=" DATA "/meta/.etc-work");
	bind_data(DATA "/meta/log", "/var/log");
	bind_data(DATA "/data/oci", "/var/lib/containers/storage");
	bind_data(DATA "/data/pods", "/var/lib/kubelet/pods");
	bind_data(DATA "/modules", "/lib/modules");
	if (mount(NULL, "/lib/modules", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL))
		say("cannot make /lib/modules read-only: %s", strerror(errno));
}

static void write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		say("cannot write %s: %s", path, strerror(errno));
	if (file >= 0)
		close(file);
}

static void start_network(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int channel = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	request.ifr_flags = IFF_UP | IFF_RUNNING;
	if (channel < 0 || ioctl(channel, SIOCSIFFLAGS, &request))
		say("cannot bring lo up: %s", strerror(errno));
	if (channel >= 0)
		close(channel);
	write_file("/proc/sys/net/ipv4/ip_forward", "1");
}

/* As in kiOS, the file's bytes are the name: a newline at its end would be part of it. */
static void apply_hostname(void)
{
	char name[65] = "";
	int file = open("/etc/hostname", O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? -1 : read(file, name, sizeof(name) - 1);

	if (length <= 0 || sethostname(name, (size_t)length))
		say("cannot apply /etc/hostname: %s", strerror(errno));
	if (file >= 0)
		close(file);
}

static void start(struct daemon *daemon)
{
	daemon->pid = fork();
	if (daemon->pid < 0) {
		say("cannot start %s: %s", daemon->argv[0], strerror(errno));
	} else if (!daemon->pid) {
		sigset_t none;
		int null = open("/dev/null", O_RDONLY);

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setsid();
		dup2(null, 0);
		dup2(daemon->output, 1);
		dup2(daemon->output, 2);
		execv(daemon->argv[0], daemon->argv);
		say("cannot execute %s: %s", daemon->argv[0], strerror(errno));
		_exit(127);
	}
}

/* Open for both directions: a reader that goes away does not kill the daemon, and the kernel keeps 64 KiB for the next. */
static void make_fifo(struct daemon *daemon)
{
	if (mkfifo(daemon->fifo, 0600))
		say("cannot make %s: %s", daemon->fifo, strerror(errno));
	daemon->output = open(daemon->fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

static void ended(struct daemon *daemon)
{
	daemon->pid = 0;
	if (shutdown_continued)
		return;
	say("%s", daemon->farewell);
	start(daemon);
}

static void reap(void)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
		if (pid == crio.pid)
			ended(&crio);
		else if (pid == kubelet.pid)
			ended(&kubelet);
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

static void add_arguments(void)
{
	static const struct {
		const char *flag, *file;
		bool content;
	} optional[] = {{"--node-labels", "/etc/kubernetes/node-labels", true},
			{"--node-ip", "/etc/kubernetes/node-ip", true},
			{"--kubeconfig", "/etc/kubernetes/kubeconfig.yaml", false},
			{"--bootstrap-kubeconfig", "/etc/kubernetes/bootstrap-kubeconfig.yaml", false}};
	int count = 3;

	for (size_t i = 0; i < sizeof(optional) / sizeof(*optional); i++) {
		char value[1024] = "", *argument;
		int file = open(optional[i].file, O_RDONLY | O_CLOEXEC);

		if (file < 0)
			continue;
		if (optional[i].content && read(file, value, sizeof(value) - 1) >= 0)
			value[strcspn(value, "\n")] = 0;
		close(file);
		if (asprintf(&argument, "%s=%s", optional[i].flag, optional[i].content ? value : optional[i].file) > 0)
			kubelet.argv[count++] = argument;
	}
}

static void start_daemons(void)
{
	make_fifo(&crio);
	make_fifo(&kubelet);
	start(&crio);
	while (!crio_answers()) {
		reap();
		pause_ms(20);
	}
	apply_hostname();
	add_arguments();
	start(&kubelet);
}

static int listen_for_commands(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SYSTEM_SOCKET};
	int channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (bind(channel, (struct sockaddr *)&address, sizeof(address)) || chmod(SYSTEM_SOCKET, 0600) ||
	    listen(channel, MAX_CLIENTS))
		say("cannot listen on %s: %s", SYSTEM_SOCKET, strerror(errno));
	return channel;
}

static void request_shutdown(void)
{
	uint8_t event = SHUTDOWN_REQUESTED;

	if (shutdown_deadline >= 0)
		return;
	say("System Shutdown Requested.");
	shutdown_deadline = now_ms() + PODS_GRACE_MS;
	shutdown_continued = client_count == 0;
	if (!shutdown_continued)
		say("Waiting for kubelet graceful shutdown");
	for (int i = 0; i < client_count; i++)
		(void)!send(clients[i], &event, 1, MSG_NOSIGNAL);
}

static void restart(struct daemon *daemon)
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
		shutdown_continued = shutdown_deadline >= 0;
		if (shutdown_continued)
			say("Kubelet graceful shutdown complete");
		break;
	case RESTART_KUBELET:
		restart(&kubelet);
		break;
	case RESTART_CRIO:
		restart(&crio);
		break;
	default:
		say("unknown command %u on %s", command, SYSTEM_SOCKET);
	}
}

static void accept_client(int listener)
{
	int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client >= 0 && client_count < MAX_CLIENTS)
		clients[client_count++] = client;
	else if (client >= 0)
		close(client);
}

static void drop_client(int index)
{
	close(clients[index]);
	clients[index] = clients[--client_count];
	/* nobody is left who could still ask for time */
	if (shutdown_deadline >= 0 && !client_count)
		shutdown_continued = true;
}

static void read_client(int index)
{
	uint8_t command;
	ssize_t got = read(clients[index], &command, 1);

	if (got == 1)
		obey(command);
	else if (!got || errno != EAGAIN)
		drop_client(index);
}

static int until_next(void)
{
	int64_t left = shutdown_deadline - now_ms();

	return shutdown_deadline < 0 ? -1 : left > 0 ? (int)left : 0;
}

static void run(int signals, int listener)
{
	while (!shutdown_continued) {
		struct pollfd ready[2 + MAX_CLIENTS] = {{.fd = signals, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
		int watched = client_count;

		for (int i = 0; i < watched; i++)
			ready[2 + i] = (struct pollfd){.fd = clients[i], .events = POLLIN};
		poll(ready, (nfds_t)(2 + watched), until_next());
		if (ready[0].revents) {
			struct signalfd_siginfo signal;

			if (read(signals, &signal, sizeof(signal)) == sizeof(signal) && signal.ssi_signo == SIGTERM)
				request_shutdown();
		}
		reap();
		for (int i = watched - 1; i >= 0; i--)
			if (ready[2 + i].revents)
				read_client(i);
		if (ready[1].revents)
			accept_client(listener);
		if (shutdown_deadline >= 0 && now_ms() >= shutdown_deadline)
			shutdown_continued = true;
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
	say("System shutting down");
	kill(-1, SIGTERM);
	if (all_gone_within(PROCESS_GRACE_MS))
		return;
	kill(-1, SIGKILL);
	if (!all_gone_within(PROCESS_GRACE_MS))
		say("some processes could not be killed");
}

/* Newest first, so that nothing is unmounted under another mount; again while that frees more. */
static void unmount_all(void)
{
	enum { MOST = 512 };
	static char *points[MOST];
	bool freed = true;

	while (freed) {
		FILE *table = fopen("/proc/self/mountinfo", "re");
		char line[4096], point[2048];
		int count = 0;

		freed = false;
		while (table && count < MOST && fgets(line, sizeof(line), table))
			if (sscanf(line, "%*d %*d %*s %*s %2047s", point) == 1 && strcmp(point, "/") && strcmp(point, "/proc") &&
			    strcmp(point, "/dev"))
				points[count++] = strdup(point);
		if (table)
			fclose(table);
		while (count--) {
			if (!umount2(points[count], 0))
				freed = true;
			free(points[count]);
		}
	}
	if (!umount2(DATA, 0) || errno == EINVAL || errno == ENOENT)
		return;
	say("cannot unmount the data partition: %s", strerror(errno));
	mount(NULL, DATA, NULL, MS_REMOUNT | MS_RDONLY, NULL);
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
	say("kiOS Init");
	sigemptyset(&handled);
	sigaddset(&handled, SIGCHLD);
	sigaddset(&handled, SIGTERM);
	sigprocmask(SIG_BLOCK, &handled, NULL);
	signals = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
	setenv("PATH", "/bin", 1);
	setenv("HOME", "/", 1);

	mount_data();
	mount_layout();
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
