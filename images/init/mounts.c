#include "init.h"
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

void mount_or_say(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
	mkdir(target, 0755);
	if (mount(source, target, type, flags, data))
		say(WARNING, "cannot mount %s on %s: %s", type ? type : source, target, strerror(errno));
}

/* Containers pivot their root, which the kernel refuses while "/" is the initial rootfs: put a mount over it. */
void leave_rootfs(void)
{
	if (mount("/", "/run", NULL, MS_BIND, NULL) || chdir("/run") || mount(".", "/", NULL, MS_MOVE, NULL) ||
	    chroot(".") || chdir("/"))
		say(WARNING, "cannot move the root: %s", strerror(errno));
}

void mount_system(void)
{
	static const char *const in_memory[] = {"/run", "/tmp", "/var/cache", "/var/tmp"};
	/* programs run from these: of containers, and out of volumes */
	static const char *const of_programs[] = {"/var/run", "/var/lib/kubelet"};

	mount_or_say("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_say("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_say("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
	mount_or_say("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666");
	mount_or_say("securityfs", "/sys/kernel/security", "securityfs", 0, NULL);
	mount_or_say("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	for (size_t i = 0; i < sizeof(in_memory) / sizeof(*in_memory); i++)
		mount_or_say("tmpfs", in_memory[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755");
	for (size_t i = 0; i < sizeof(of_programs) / sizeof(*of_programs); i++)
		mount_or_say("tmpfs", of_programs[i], "tmpfs", 0, "mode=0755");
	if (mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL))
		say(WARNING, "cannot share the mounts: %s", strerror(errno));
}

/* Newest first, so that nothing is unmounted under another mount; again while that frees more. */
void unmount_all(void)
{
	enum { MOST = 512 };
	static char *points[MOST];
	bool freed = true, data = false;

	while (freed) {
		FILE *table = fopen("/proc/self/mountinfo", "re");
		char line[4096], point[2048];
		int count = 0;

		freed = data = false;
		while (table && count < MOST && fgets(line, sizeof(line), table))
			if (sscanf(line, "%*d %*d %*s %*s %2047s", point) == 1 && strcmp(point, "/") && strcmp(point, "/proc") &&
			    strcmp(point, "/dev")) {
				points[count++] = strdup(point);
				data = data || strstr(line, " - ext4 ");
			}
		if (table)
			fclose(table);
		while (count--) {
			if (!umount2(points[count], 0))
				freed = true;
			free(points[count]);
		}
	}
	if (data)
		say(WARNING, "cannot unmount the data partition");
}
