/* Sends init a one-byte command over the node's /run/system.sock (kiOS contract: 3 restarts the kubelet, 4 CRI-O). */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/host/run/system.sock"};
	int channel = socket(AF_UNIX, SOCK_STREAM, 0);
	unsigned char command = count > 1 ? (unsigned char)atoi(arguments[1]) : 0;

	if (!command || connect(channel, (struct sockaddr *)&address, sizeof(address)) || write(channel, &command, 1) != 1) {
		perror("kios-system");
		return 1;
	}
	return 0;
}
