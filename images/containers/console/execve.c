/*
 * Executes a program by the bare system call and ends with the error's number if that fails. A shell, and execvp(3) too,
 * would run a script by itself after ENOEXEC, and so hide whether the kernel can.
 */
#include <errno.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	if (count < 2)
		return 2;
	execv(arguments[1], arguments + 1);
	fprintf(stderr, "%s: %s\n", arguments[1], strerror(errno));
	return errno;
}
