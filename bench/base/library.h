/*
 * bench/base/library.h - the shared object that holds everything which needs CUDA, cuDNN or NCCL.
 *
 * It is opened when it is first asked for, so that the program starts on any machine; what it lacks is a sentence.
 */
#ifndef SFSCALE_BASE_LIBRARY_H
#define SFSCALE_BASE_LIBRARY_H

#define LIBRARY_CUDA "libsfscale-cuda.so"

enum { LIBRARY_WHY_BYTES = 512 };

/* The table of a back end, "sfscale_KIND_NAME" in LIBRARY_CUDA: beside the program, in ../lib from there, or where the loader
 * looks.  NULL, with `why` and not said, where it cannot be had. */
const void *library_table(const char *kind, const char *name, char why[LIBRARY_WHY_BYTES]);

#endif
