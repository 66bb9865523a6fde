/*
 * bench/commands.h - the commands, one file each; main.c lists them.
 */
#ifndef SFSCALE_BENCH_COMMANDS_H
#define SFSCALE_BENCH_COMMANDS_H

#include "bench/base/opt.h"

extern const struct command command_net;
extern const struct command command_data_make;
extern const struct command command_data_check;
extern const struct command command_run;
/* Whether option values of run (its own struct, as opt_parse() filled it) fit together; USAGE, said. */
int run_options_check(const void *values);
extern const struct command command_sweep;
extern const struct command command_report;
extern const struct command command_bench;
extern const struct command command_loader;
extern const struct command command_diagnose;
extern const struct command command_eval;
extern const struct command command_export;
extern const struct command command_topo;
extern const struct command command_verify;

#endif
