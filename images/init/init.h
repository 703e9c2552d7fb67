/* What the parts of PID 1 have of each other; `data.c` and `memory.c` are one or the other, by the generation of kiOS. */
#pragma once

/* levels of the kernel's log */
#define WARNING "<4>"
#define NOTICE "<5>"
#define INFO "<6>"

/* log.c */
__attribute__((format(printf, 2, 3))) void say(const char *level, const char *format, ...);

/* mounts.c */
void leave_rootfs(void);
void mount_system(void);
void mount_or_say(const char *source, const char *target, const char *type, unsigned long flags, const char *data);
void unmount_all(void);

/* data.c or memory.c: where /etc, logs, container images and pods live */
void mount_state(void);
/* what is written "1" to, and what the kubelet is started with; each ends with NULL */
extern const char *const forwarding[];
extern char *const kubelet_options[];
