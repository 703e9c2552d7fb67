#define _GNU_SOURCE
#include "agent.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* conmon writes a container's exit status to a file here, named by the container's id. */
#define EXITS "/host/var/run/crio/exits"
/* Where CRI-O keeps what it knows of them: its runroot, which differs between kiOS's generations. */
static const char *const CONTAINERS[] = {"/host/run/containers/storage/overlay-containers",
					 "/host/var/run/containers/storage/overlay-containers",
					 "/host/var/lib/containers/storage/overlay-containers"};

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

static void tell_end_of(const char *id, void (*tell)(const struct end *))
{
	static char config[256 << 10];
	char path[1024], log[512];
	struct end end;

	*config = 0;
	for (size_t i = 0; i < sizeof(CONTAINERS) / sizeof(*CONTAINERS) && !*config; i++) {
		snprintf(path, sizeof(path), "%s/%s/userdata/config.json", CONTAINERS[i], id);
		read_text(path, config, sizeof(config));
	}
	value_of(config, "io.kubernetes.container.name", end.container, sizeof(end.container));
	if (!*end.container || !strcmp(end.container, "POD"))
		return;
	snprintf(path, sizeof(path), "%s/%s", EXITS, id);
	read_text(path, end.status, sizeof(end.status));
	value_of(config, "io.kubernetes.pod.name", end.pod, sizeof(end.pod));
	value_of(config, "io.kubernetes.pod.namespace", end.namespace, sizeof(end.namespace));
	value_of(config, "io.kubernetes.cri-o.LogPath", log, sizeof(log));
	snprintf(path, sizeof(path), "/host%s", log);
	last_words(path, end.words, sizeof(end.words));
	tell(&end);
}

int ends_watch(void)
{
	int watch = inotify_init1(IN_CLOEXEC);

	return watch >= 0 && inotify_add_watch(watch, EXITS, IN_MOVED_TO) >= 0 ? watch : -1;
}

void ends_tell_past(void (*tell)(const struct end *))
{
	struct dirent *entry;
	DIR *exits = opendir(EXITS);

	while (exits && (entry = readdir(exits)))
		if (*entry->d_name != '.')
			tell_end_of(entry->d_name, tell);
	if (exits)
		closedir(exits);
}

void ends_read(int watch, void (*tell)(const struct end *))
{
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t length = read(watch, events, sizeof(events));

	for (char *at = events; at < events + length;) {
		struct inotify_event *event = (struct inotify_event *)at;

		/* conmon renames what it has written: under its own name the file is whole. */
		if (event->len && *event->name != '.')
			tell_end_of(event->name, tell);
		at += sizeof(*event) + event->len;
	}
}
