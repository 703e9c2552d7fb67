#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static void tell_in_frame(const struct end *end)
{
	const char *const told[] = {end->namespace, end->pod, end->container, end->status, end->words};
	char payload[sizeof(*end)];
	size_t length = 0;

	for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++) {
		strcpy(payload + length, told[i]);
		length += strlen(told[i]) + 1;
	}
	link_send(ENDED, 0, payload, length);
}

void take_frame(enum kind kind, uint16_t job, const uint8_t *payload, size_t length)
{
	if (kind != HELLO) {
		jobs_take(kind, job, payload, length);
		return;
	}
	jobs_forget();
	if (length && *payload)
		ends_tell_past(tell_in_frame);
}

void serve(int device, const char *token)
{
	struct pollfd polled[2 + JOBS_POLLED];
	int watch = ends_watch();

	make_raw(device);
	jobs_open();
	link_open(device, token);
	for (;;) {
		polled[0] = (struct pollfd){.fd = device, .events = POLLIN};
		polled[1] = (struct pollfd){.fd = watch, .events = POLLIN};
		jobs_poll(polled + 2);
		if (poll(polled, 2 + JOBS_POLLED, link_due()) < 0 && errno != EINTR)
			_exit(1);
		if (polled[0].revents)
			link_read();
		if (polled[1].revents)
			ends_read(watch, tell_in_frame);
		jobs_tend(polled + 2);
		link_tend();
	}
}
