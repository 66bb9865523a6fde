/*
 * comm/topo/log.h - what NCCL said: communicators, rings, connections, NICs, environment.
 *
 * The log is read by its anchors ("host:pid:tid [dev] NCCL INFO ..."), wherever on a physical
 * line they stand: launchers put words in front, and processes write into each other's lines.
 * A message that does not parse is counted and never guessed at.
 */
#ifndef SFSCALE_COMM_TOPO_LOG_H
#define SFSCALE_COMM_TOPO_LOG_H

#include "comm/topo/text.h"

/* A place in an input; line 0: none. */
struct topo_at {
	uint32_t file;		/* index of topo_log.files */
	uint32_t line;
};

enum topo_via { TOPO_VIA_NONE, TOPO_VIA_P2P, TOPO_VIA_SHM, TOPO_VIA_NET };

/* What one end of a connection said. */
struct topo_end {
	bool seen, gdr;
	int32_t net;		/* index in that process's list of NICs; -1: no NIC */
	uint32_t nic;		/* of topo_log.nics; TOPO_NONE: unknown */
	int32_t proxy;		/* rank whose NIC sends (PXN); -1: its own */
	struct topo_at at;
};

/* A connection; both ends name the sender first. */
struct topo_edge {
	int32_t from, to;	/* ranks */
	uint16_t channel;
	uint8_t conn;		/* 0: collectives, 1: point-to-point operations */
	uint8_t via;		/* enum topo_via */
	bool ring;		/* from -> to is a hop of the channel's ring */
	const char *how;	/* "P2P/IPC/read", "IBext", "AWS Libfabric" */
	struct topo_end send, recv;
};

struct topo_nic {
	uint32_t host;
	const char *name;	/* "mlx5_0", or "AWS Libfabric/3" when no list names it */
	const char *net;	/* "IB", "RoCE", "Socket", or the plugin's name */
	int32_t port;
	uint32_t adapter;	/* of the fabric, once joined (model.h); TOPO_NONE */
	struct topo_at at;
};

struct topo_rank {
	bool present;		/* spoke; otherwise only others named it */
	bool complete;		/* "Init COMPLETE" */
	uint32_t host;		/* TOPO_NONE when absent */
	uint32_t process;
	int32_t cuda_dev, nvml_dev;	/* -1: not said */
	uint64_t bus;		/* domain << 20 | bus << 12 | device << 4 | function */
	struct topo_at at;
};

struct topo_comm {
	const char *id;		/* commId, or one made of what is known */
	size_t rank_count;
	struct topo_rank *ranks;	/* owned */
	size_t host_count;	/* different hosts of the present ranks */
	int32_t said_nodes;	/* "nNodes"; -1 */
	size_t channel_count;
	int32_t *next;		/* owned, [channel][rank]: the ring; -1: not known */
	bool *closed;		/* owned, per channel: one cycle through all ranks */
	struct topo_edge *edges;	/* owned; sorted by channel, from, to */
	size_t edge_count;
	struct topo_at at;
	bool ambiguous;		/* ranks were grouped without an id and could be another communicator's */
	bool planned;		/* made from a host list, not from a log */
};

enum topo_note_kind {
	NOTE_NO_IB, NOTE_NETWORK, NOTE_INTERFACE, NOTE_SIMPLE_ORDER, NOTE_SHARP, NOTE_OPEN_FAILED, NOTE_GDR_DISABLED,
	NOTE_VERSION_MISMATCH, NOTE_PXN_OFF, NOTE_DISTANCE, NOTE_PATTERN, NOTE_ABORT, NOTE_NVLS,
	NOTE_AFFINITY,		/* "GPU 0 to ff,fff00000", "GPU 0 is 0-31. (GPU affinity = ..." */
	NOTE_SUBNET,		/* first three numbers of the bootstrap address */
};

/* A line worth keeping; equal ones of a host are counted. */
struct topo_note {
	enum topo_note_kind kind;
	uint32_t host;
	const char *text;
	size_t count;
	struct topo_at at;
};

struct topo_setting {		/* NCCL_X set by environment to v. */
	uint32_t host;
	const char *name, *value;
	struct topo_at at;
};

struct topo_choice {		/* TUNING */
	const char *function, *algo, *proto;
	uint64_t bytes;
	int32_t channels;	/* -1: not said */
	struct topo_at at;
};

struct topo_host {
	const char *name;	/* NCCL_HOSTID where set */
	const char *machine;	/* the name in front of its lines */
	size_t processes;
	uint32_t facts;		/* of the model's nodes; TOPO_NONE */
};

struct topo_log {
	struct topo_names names;
	const char **files;	/* owned array; names are borrowed from `names` */
	size_t file_count, file_room;
	const char *version;	/* "2.18.5"; NULL: not said */
	int version_number;	/* 21805; 0 */
	uint32_t day;		/* of the run, when lines begin with a date: 20200618; 0 */
	struct topo_host *hosts;
	size_t host_count, host_room;
	struct topo_nic *nics;
	size_t nic_count, nic_room;
	struct topo_comm *comms;	/* largest first */
	size_t comm_count, comm_room;
	struct topo_note *notes;
	size_t note_count, note_room;
	struct topo_setting *settings;
	size_t setting_count, setting_room;
	struct topo_choice *choices;
	size_t choice_count, choice_room;
	size_t lines, messages;
	size_t torn;		/* messages cut by another process's */
	size_t strange;		/* connection lines in no form that NCCL prints */
	struct topo_at torn_at, strange_at;
	struct topo_reader *reader;	/* between parse and finish */
};

/* Any number of texts, then finish once; the log is usable only after that. */
void topo_log_parse(struct topo_log *, const char *file, const char *text, size_t bytes);
void topo_log_finish(struct topo_log *);
void topo_log_release(struct topo_log *);

/* Does the text hold a line of NCCL? */
bool topo_log_is(const char *text, size_t bytes);

/* The hop of a ring as a connection; NULL: no line told of it. */
const struct topo_edge *topo_edge_find(const struct topo_comm *, size_t channel, int32_t from, int32_t to);

/* A log's equal of a job that has not run: hosts in rank order, `gpus` ranks each, one ring channel
 * per name of `nics`, entering and leaving each host over it. */
void topo_log_plan(struct topo_log *, const char *file, const char *const *hosts, size_t host_count, size_t gpus,
		   const char *const *nics, size_t nic_count);

#endif
