/*
 * comm/topo/log_reader.h - what the lines of a log leave behind until its end: log.c fills it, log_join.c reads it.
 */
#ifndef SFSCALE_COMM_TOPO_LOG_READER_H
#define SFSCALE_COMM_TOPO_LOG_READER_H

#include "comm/topo/log.h"

enum { SPELLINGS = 3, CHANNELS_MAX = 256, RANKS_MAX = 1 << 17 };

struct process {
	uint64_t pid;
	uint32_t next;			/* with the same pid */
	struct { const char *name; size_t count; } host[SPELLINGS];	/* torn prefixes make several */
	uint32_t final_host;
	uint32_t newest;		/* member; TOPO_NONE */
	bool says_start;		/* prints Init START */
	struct { const char *name, *net; int32_t port; struct topo_at at; } *nics;	/* owned, by index */
	size_t nic_count;
};

struct thread {
	uint64_t tid;
	uint32_t process, next;		/* next with the same tid */
	uint32_t open;			/* member being made; TOPO_NONE */
	uint32_t last;			/* member of the latest connection line */
};

/* "host:pid:tid [dev] " as it stands in the text, and who that is: a thread's next line has the same bytes there. */
struct anchor {
	const char *at;			/* borrowed from the text being parsed; NULL: none */
	size_t bytes;
	uint32_t thread;
	int32_t dev;
};
enum { ANCHORS = 1024 };		/* a power of two; more than processes that write at the same time */

struct member {
	uint32_t process;
	uint64_t pointer, id;
	bool known, complete, gone;
	int32_t rank, rank_count, cuda_dev, nvml_dev, nodes;
	uint64_t bus;
	const char *parent;		/* split or shrunk: "parent pointer count color" stands for the id */
	uint32_t ordinal;		/* how many members of this size its process had before */
	uint32_t segment, ring_segment;	/* of its connection lines; each "Connected all" ends one */
	uint32_t earlier;		/* member of the same process made before; TOPO_NONE */
	uint32_t comm;
	int32_t channels;
	struct topo_at at;
};

/* What one line says of a connection: one end of a network hop, both of a local one. */
enum half_kind { HALF_SEND, HALF_RECEIVE, HALF_LOCAL };

struct half {
	uint32_t member;
	uint32_t segment;
	int32_t from, to, net, proxy;
	uint16_t channel;
	uint8_t conn, kind, via;
	bool gdr, shared;
	const char *how;
	struct topo_at at;
};

/* An order line (count ranks from `first` of the pool) or a GRAPH line (me -> next). */
struct order {
	uint32_t member;
	uint16_t channel;
	bool pair;
	size_t first, count;
	int32_t channels;
};

struct topo_reader {
	struct process *processes;
	size_t process_count, process_room;
	struct thread *threads;
	size_t thread_count, thread_room;
	struct member *members;
	size_t member_count, member_room;
	struct half *halves;
	size_t half_count, half_room;
	struct order *orders;
	size_t order_count, order_room;
	int32_t *pool;
	size_t pool_count, pool_room;
	struct topo_map tids;		/* tid -> first thread */
	struct topo_map pids;		/* pid -> first process */
	struct topo_map nics;		/* host, name and port, mixed -> NIC */
	struct topo_map speakers;	/* host, pid and tid -> thread: all lines but torn ones and a thread's first */
	struct anchor anchors[ANCHORS];	/* by their last bytes; one that meets another takes its place */
};

#endif
