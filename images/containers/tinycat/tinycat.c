/* Copies a file, by default /in, to stdout: how a daemon's FIFO becomes the log of a container. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int write_all(const char *data, ssize_t length)
{
	while (length > 0) {
		ssize_t written = write(STDOUT_FILENO, data, (size_t)length);

		if (written < 0)
			return -1;
		data += written;
		length -= written;
	}
	return 0;
}

int main(int count, char **arguments)
{
	const char *path = count > 1 ? arguments[1] : "/in";
	int file = open(path, O_RDONLY | O_CLOEXEC);
	/* as small as kiOS's own: long lines reach the log in parts */
	char block[100];
	ssize_t got;

	if (file < 0) {
		perror(path);
		return 1;
	}
	while ((got = read(file, block, sizeof(block))) > 0)
		if (write_all(block, got)) {
			perror("stdout");
			return 1;
		}
	if (got < 0) {
		perror(path);
		return 1;
	}
	return 0;
}
