/*
 * kiOS of generation A: all that outlives a power-off is on a data partition, which is found before anything else is done.
 */
#define _GNU_SOURCE
#include "init.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* 97aac693-d920-465a-94fe-eb59fc86dfaa, in the mixed-endian form in which GPT stores it (UEFI 2.10, appendix A) */
static const uint8_t DATA_TYPE[16] = {0x93, 0xc6, 0xaa, 0x97, 0x20, 0xd9, 0x5a, 0x46,
				      0x94, 0xfe, 0xeb, 0x59, 0xfc, 0x86, 0xdf, 0xaa};

const char *const forwarding[] = {"/proc/sys/net/ipv4/ip_forward", NULL};
char *const kubelet_options[] = {"--node-ip", "::", NULL};

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
		usleep(20 * 1000);
	say(INFO, "Using Datapart:");
	say(INFO, "%s", device);
	if (mount(device, "/tmp", "ext4", 0, NULL))
		say(WARNING, "cannot mount the data partition %s: %s", device, strerror(errno));
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

/* The partition as a whole is seen while its folders are bound to their places, and then by nobody. */
static void mount_layout(void)
{
	bind_data("/tmp/meta", "/var/meta");
	bind_data("/var/meta/log", "/var/log");
	mkdir_all("/var/meta/etc");
	mkdir_all("/var/meta/.etc.work");
	mount_or_say("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir=/var/meta/etc,workdir=/var/meta/.etc.work");
	bind_data("/tmp/data/oci", "/var/lib/containers/storage");
	bind_data("/tmp/data/pods", "/var/lib/kubelet/pods");
	bind_data("/tmp/modules", "/lib/modules");
	if (mount(NULL, "/lib/modules", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL))
		say(WARNING, "cannot make /lib/modules read-only: %s", strerror(errno));
	if (umount2("/tmp", 0))
		say(WARNING, "cannot unmount /tmp: %s", strerror(errno));
}

void mount_state(void)
{
	mount_data();
	mount_layout();
}
