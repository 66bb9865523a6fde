/*
 * comm/backends.h - the back ends that comm.c lists.
 */
#ifndef SFSCALE_COMM_BACKENDS_H
#define SFSCALE_COMM_BACKENDS_H

#include "comm/comm.h"

extern const struct comm_backend comm_mpi;	/* host memory, any MPI 3 */
extern const struct comm_backend comm_null;	/* one rank, in no time */

#endif
