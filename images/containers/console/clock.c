/*
 * Prints the node's clock, in nanoseconds of the epoch; with an argument, puts it on by so many nanoseconds first. A shift,
 * unlike a time to set, is right however long the command takes on its way here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SECOND 1000000000LL

int main(int count, char **arguments)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (count > 1) {
		long long shifted = now.tv_sec * SECOND + now.tv_nsec + atoll(arguments[1]);

		now.tv_sec = shifted / SECOND;
		now.tv_nsec = shifted % SECOND;
		if (clock_settime(CLOCK_REALTIME, &now)) {
			perror("clock");
			return 1;
		}
		clock_gettime(CLOCK_REALTIME, &now);
	}
	printf("%lld\n", now.tv_sec * SECOND + now.tv_nsec);
	return 0;
}
