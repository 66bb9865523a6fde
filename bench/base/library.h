/*
 * bench/base/library.h - the shared object that holds everything which needs CUDA, cuDNN or NCCL.
 *
 * It is opened when it is first asked for, so that the program starts on any machine; what it lacks is a sentence.
 */
#ifndef SFSCALE_BASE_LIBRARY_H
#define SFSCALE_BASE_LIBRARY_H

#define LIBRARY_CUDA "libsfscale-cuda.so"

/* The address of `symbol` in LIBRARY_CUDA: beside the program, in ../lib from there, or where the loader looks.
 * UNSUPPORTED, not said, with `why` where it cannot be had; `why` has at least 512 bytes. */
int library_symbol(const char *symbol, void **address, char *why);

#endif
