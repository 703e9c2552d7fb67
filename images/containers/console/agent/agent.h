/*
 * The harness's own container on a node: a root shell on the first serial port, as a user has it, and an agent on the
 * second, which runs commands, reads and writes files, and tells how containers end.
 *
 * A frame on the second port, little-endian, after which comes a checksum (CRC-32) over the run's token, the session, the
 * header and the payload. A frame is written in one call, so what others write to the port stands between frames, not in
 * them. Each side numbers its frames, keeps them until the other has them, and sends them again if that takes too long.
 * What is longer than a payload comes in full frames, and one that is not full, maybe empty, behind them.
 * The harness's side is harness/serial/link.py.
 */
#ifndef AGENT_H
#define AGENT_H

#include <stddef.h>
#include <stdint.h>

#define PAYLOAD 2048

struct header {
	uint8_t magic[2];
	uint16_t length; /* of the payload */
	uint16_t number; /* 0: out of the sequence */
	uint16_t heard;	 /* the last number of the other side's that came in its turn */
	uint16_t job;	 /* the request that it belongs to */
	uint8_t kind;
} __attribute__((packed));

enum kind {
	HELLO = 1, /* harness: a session, and whether to tell of past ends; agent: that session, or nothing as it starts */
	HEARD,	   /* nothing but the header */
	RUN,	   /* a command */
	READ,	   /* a path */
	WRITE,	   /* a path */
	DATA,	   /* of what is to be written */
	KILL,	   /* end a command */
	OUTPUT,	   /* of a command or a file */
	STATUS,	   /* four bytes, and the words of an error */
	ENDED,	   /* a container: namespace, pod, name, status and last words, each with a NUL behind it */
};

/* agent.c */
void serve(int device, const char *token) __attribute__((noreturn));

/* link.c */
void link_open(int device, const char *token);
void link_send(enum kind kind, uint16_t job, const void *payload, size_t length);
int link_has_room(void);
/* Milliseconds until something is due; -1: nothing is. */
int link_due(void);
void link_tend(void);
/* Reads what has arrived and hands each frame that came in its turn to take_frame. */
void link_read(void);
void take_frame(enum kind kind, uint16_t job, const uint8_t *payload, size_t length);

/* jobs.c */
struct pollfd;
void jobs_open(void);
void jobs_take(enum kind kind, uint16_t job, const uint8_t *payload, size_t length);
void jobs_forget(void);
/* Fills in JOBS_POLLED entries. */
void jobs_poll(struct pollfd *polled);
void jobs_tend(const struct pollfd *polled);
#define JOBS 32
#define JOBS_POLLED (JOBS + 1)

/* ends.c */
struct end {
	char namespace[128], pod[256], container[128], status[16], words[512];
};
int ends_watch(void);
void ends_read(int watch, void (*tell)(const struct end *));
void ends_tell_past(void (*tell)(const struct end *));

/* words.c: of a log in CRI's format, TIME STREAM TAG TEXT, the last line that says anything, whole again. */
void last_words(const char *path, char *words, size_t size);

/* port.c */
void load_driver(void);
int open_when_there(const char *folder, const char *name);
int open_within(const char *path, int milliseconds);
void make_raw(int device);
void read_text(const char *path, char *text, size_t size);

#endif
