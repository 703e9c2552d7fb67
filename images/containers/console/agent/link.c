#define _GNU_SOURCE
#include "agent.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WINDOW 8
/* Behind so many frames no output is read any more: a command waits, memory does not grow. */
#define QUEUE 8
#define AGAIN_MS 3000
#define HEARD_MS 100

static const uint8_t MAGIC[2] = {0xa5, 0x4b};

struct frame {
	struct frame *next;
	size_t size;
	uint16_t number;
	uint8_t bytes[];
};

static int port;
static uint32_t of_token, of_session;
static uint8_t session[8];
static int has_session;
/* Sent and not yet heard come first, then those that wait for the window. */
static struct frame *first;
static int queued, in_flight;
static uint16_t last_sent, last_heard;
static int64_t sent_at, owed_since;

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

static uint32_t crc(uint32_t before, const void *data, size_t length)
{
	static uint32_t table[256];
	const uint8_t *bytes = data;
	uint32_t value = ~before;

	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t entry = i;

			for (int bit = 0; bit < 8; bit++)
				entry = entry & 1 ? entry >> 1 ^ 0xedb88320u : entry >> 1;
			table[i] = entry;
		}
	while (length--)
		value = table[(value ^ *bytes++) & 0xff] ^ value >> 8;
	return ~value;
}

static uint16_t after(uint16_t number)
{
	return number % 65535 + 1;
}

static uint32_t key(enum kind kind)
{
	return kind == HELLO ? of_token : of_session;
}

/* Fills in what the header says now, and the checksum. */
static void put(uint8_t *bytes, size_t size, uint32_t begin)
{
	uint32_t sum;

	((struct header *)bytes)->heard = last_heard;
	sum = crc(begin, bytes, size - sizeof(sum));
	memcpy(bytes + size - sizeof(sum), &sum, sizeof(sum));
	for (size_t done = 0; done < size;) {
		ssize_t length = write(port, bytes + done, size - done);

		if (length <= 0)
			return;
		done += length;
	}
	owed_since = 0;
}

static struct frame *framed(enum kind kind, uint16_t number, uint16_t job, const void *payload, size_t length)
{
	size_t size = sizeof(struct header) + length + sizeof(uint32_t);
	struct frame *frame = malloc(sizeof(*frame) + size);
	struct header header = {{MAGIC[0], MAGIC[1]}, length, number, 0, job, kind};

	if (!frame)
		_exit(1);
	frame->next = NULL;
	frame->size = size;
	frame->number = number;
	memcpy(frame->bytes, &header, sizeof(header));
	memcpy(frame->bytes + sizeof(header), payload, length);
	return frame;
}

static void send_unnumbered(enum kind kind, const void *payload, size_t length)
{
	struct frame *frame = framed(kind, 0, 0, payload, length);

	put(frame->bytes, frame->size, key(kind));
	free(frame);
}

static void send_window(void)
{
	struct frame *frame = first;

	for (int i = 0; frame && i < in_flight; i++)
		frame = frame->next;
	while (frame && in_flight < WINDOW) {
		if (!in_flight++)
			sent_at = now();
		put(frame->bytes, frame->size, of_session);
		frame = frame->next;
	}
}

void link_open(int device, const char *token)
{
	port = device;
	of_token = crc(0, token, strlen(token));
	send_unnumbered(HELLO, "", 0);
}

void link_send(enum kind kind, uint16_t job, const void *payload, size_t length)
{
	struct frame *frame, **end = &first;

	if (!has_session)
		return;
	last_sent = after(last_sent);
	frame = framed(kind, last_sent, job, payload, length);
	while (*end)
		end = &(*end)->next;
	*end = frame;
	queued++;
	send_window();
}

int link_has_room(void)
{
	return queued < QUEUE;
}

static void drop_first(void)
{
	struct frame *frame = first;

	first = frame->next;
	free(frame);
	queued--;
	if (in_flight)
		in_flight--;
	sent_at = now();
}

int link_due(void)
{
	int64_t at = now(), due = -1;

	if (owed_since)
		due = owed_since + HEARD_MS;
	if (in_flight && (due < 0 || sent_at + AGAIN_MS < due))
		due = sent_at + AGAIN_MS;
	return due < 0 ? -1 : due > at ? (int)(due - at) : 0;
}

void link_tend(void)
{
	int64_t at = now();

	if (in_flight && at >= sent_at + AGAIN_MS) {
		in_flight = 0;
		send_window();
	}
	if (owed_since && at >= owed_since + HEARD_MS)
		send_unnumbered(HEARD, "", 0);
}

static void begin_session(const uint8_t *payload, size_t length)
{
	if (length < sizeof(session) + 1)
		return;
	if (!has_session || memcmp(session, payload, sizeof(session))) {
		memcpy(session, payload, sizeof(session));
		of_session = crc(of_token, session, sizeof(session));
		has_session = 1;
		while (first)
			drop_first();
		last_sent = last_heard = 0;
		owed_since = 0;
		send_unnumbered(HELLO, session, sizeof(session));
		take_frame(HELLO, 0, payload + sizeof(session), length - sizeof(session));
		return;
	}
	send_unnumbered(HELLO, session, sizeof(session));
}

/* Whether all up to a number that was sent has been heard by the other side. */
static void hear(uint16_t heard)
{
	int flying = 0, until = 0;

	for (struct frame *frame = first; frame && flying < in_flight; frame = frame->next) {
		flying++;
		if (frame->number == heard)
			until = flying;
	}
	while (until--)
		drop_first();
	send_window();
}

static void take(const uint8_t *bytes)
{
	struct header header;
	const uint8_t *payload = bytes + sizeof(header);

	memcpy(&header, bytes, sizeof(header));
	if (header.kind == HELLO) {
		begin_session(payload, header.length);
		return;
	}
	hear(header.heard);
	if (!header.number)
		return;
	if (!owed_since)
		owed_since = now();
	if (header.number != after(last_heard))
		return;
	last_heard = header.number;
	take_frame(header.kind, header.job, payload, header.length);
}

void link_read(void)
{
	static uint8_t buffer[4 * (sizeof(struct header) + PAYLOAD + sizeof(uint32_t))];
	static size_t filled;
	size_t at = 0;
	ssize_t length = read(port, buffer + filled, sizeof(buffer) - filled);

	if (length <= 0)
		_exit(1);
	filled += length;
	while (at < filled) {
		struct header header;
		uint32_t sum;
		uint8_t *found = memchr(buffer + at, MAGIC[0], filled - at);

		if (!found) {
			at = filled;
			break;
		}
		at = found - buffer;
		if (filled - at < sizeof(header))
			break;
		memcpy(&header, found, sizeof(header));
		if (header.magic[1] != MAGIC[1] || header.length > PAYLOAD) {
			at++;
			continue;
		}
		if (filled - at < sizeof(header) + header.length + sizeof(sum))
			break;
		memcpy(&sum, found + sizeof(header) + header.length, sizeof(sum));
		if (sum != crc(key(header.kind), found, sizeof(header) + header.length)) {
			at++;
			continue;
		}
		take(found);
		at += sizeof(header) + header.length + sizeof(sum);
	}
	filled -= at;
	memmove(buffer, buffer + at, filled);
}
