/*
 * comm/topo/log_plan.c - a log's equal of a job that has not run.
 */
#include "comm/topo/log.h"

void topo_log_plan(struct topo_log *log, const char *file, const char *const *hosts, size_t host_count, size_t gpus,
		   const char *const *nics, size_t nic_count)
{
	struct topo_at at = { .file = (uint32_t)log->file_count };
	struct topo_comm c = { .rank_count = host_count * gpus, .said_nodes = -1, .planned = true, .at = at,
			       .channel_count = nic_count, .host_count = host_count };
	size_t room = 0;

	TOPO_PUSH(log->files, log->file_count, log->file_room) = topo_name_of(&log->names, file);
	c.id = topo_name_of(&log->names, "planned");
	c.ranks = topo_alloc(c.rank_count, sizeof(*c.ranks));
	c.next = topo_alloc(c.rank_count * nic_count, sizeof(*c.next));
	c.closed = topo_alloc(nic_count, sizeof(*c.closed));
	for (size_t h = 0; h < host_count; h++) {
		struct topo_at line = { .file = at.file, .line = (uint32_t)h + 1 };

		TOPO_PUSH(log->hosts, log->host_count, log->host_room) =
			(struct topo_host){ .name = topo_name_of(&log->names, hosts[h]), .facts = TOPO_NONE };
		log->hosts[log->host_count - 1].machine = log->hosts[log->host_count - 1].name;
		for (size_t n = 0; n < nic_count; n++)
			TOPO_PUSH(log->nics, log->nic_count, log->nic_room) =
				(struct topo_nic){ .host = (uint32_t)log->host_count - 1,
						   .port = 1,
						   .net = "IB",
						   .name = topo_name_of(&log->names, nics[n]),
						   .adapter = TOPO_NONE,
						   .at = line };
		for (size_t g = 0; g < gpus; g++)
			c.ranks[h * gpus + g] = (struct topo_rank){ .present = true,
								    .complete = true,
								    .at = line,
								    .host = (uint32_t)log->host_count - 1,
								    .process = TOPO_NONE,
								    .cuda_dev = (int32_t)g,
								    .nvml_dev = (int32_t)g };
	}
	for (size_t n = 0; n < nic_count; n++) {
		c.closed[n] = true;
		for (size_t r = 0; r < c.rank_count; r++) {
			size_t to = (r + 1) % c.rank_count, h = r / gpus, next = to / gpus;
			struct topo_edge e = { .from = (int32_t)r,
					       .to = (int32_t)to,
					       .channel = (uint16_t)n,
					       .ring = true,
					       .via = h == next ? TOPO_VIA_P2P : TOPO_VIA_NET,
					       .how = "planned" };

			c.next[n * c.rank_count + r] = (int32_t)to;
			e.send = e.recv = (struct topo_end){ .seen = true, .gdr = true, .net = -1, .nic = TOPO_NONE,
							     .proxy = -1, .at = c.ranks[r].at };
			if (h != next) {
				e.send.nic = (uint32_t)(log->nic_count - host_count * nic_count + h * nic_count + n);
				e.recv.nic = (uint32_t)(log->nic_count - host_count * nic_count + next * nic_count + n);
				e.send.net = e.recv.net = (int32_t)n;
			}
			TOPO_PUSH(c.edges, c.edge_count, room) = e;
		}
	}
	TOPO_PUSH(log->comms, log->comm_count, log->comm_room) = c;
}
