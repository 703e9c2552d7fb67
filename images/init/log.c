#include "init.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Without a line end, as kiOS's init does it: the kernel keeps a record back until the next one comes. */
void say(const char *level, const char *format, ...)
{
	char line[512];
	va_list arguments;
	int log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	snprintf(line, sizeof(line), "%skiOS: ", level);
	va_start(arguments, format);
	vsnprintf(line + strlen(line), sizeof(line) - strlen(line), format, arguments);
	va_end(arguments);
	if (log >= 0) {
		(void)!write(log, line, strlen(line));
		close(log);
	}
}
