/** What `--help` prints. */
import type { OptionDescription } from './arguments.ts';
import { MACHINE_OPTIONS, REPLAY_OPTIONS } from './replay.ts';

export const HELP = `farfault: a user-space machine with the semantics of Linux heterogeneous memory management

Usage:
  farfault replay <trace | -> [options]    replay a recorded program through a device
  farfault examples [options]              replay the three recorded workloads of the repository
  farfault <command> --help                options, and the rules that the numbers depend on
  farfault --version

Exit codes: 0 done, 1 the trace or a file is missing or broken, 2 the command line is wrong, 130 Ctrl-C.
FARFAULT_DEBUG=1 prints stack traces.`;

export const REPLAY_HELP = `farfault replay <trace | -> [options]

Replays the memory accesses of a recorded program through a machine with a device, checks every load
against the value that was stored last, and prints what happened.

The trace is what Valgrind's lackey prints, plain or gzip, from a file or from standard input:
  valgrind -q --tool=lackey --trace-mem=yes --log-file=prog.trace ./prog
Its sidecar, <trace>.json, says which part of the program is the device's:
  { "schema": 1, "offload": [ { "symbol": "kernel", "range": "0x401200-0x401300" } ] }

Options:
${listed(REPLAY_OPTIONS)}

What the numbers depend on:
  Accesses      An I line is counted, not replayed. M is a read and then a write. An access belongs to
                the instruction above it, and to the CPU if none is. CPU accesses run one after the
                other; a run of device accesses is a job, cut at 65536. An access over a page boundary
                is one access that touches two pages.
  TLBs          256 sets of 4 ways, least recently used out first, page number modulo 256: one for the
                CPU, one for each device. Counted by page touched, when the access executes.
  Addresses     The 2 MiB block around a page is reserved, readable and writable, when it is first
                touched.
  Lanes         Access k of a job goes to lane k modulo n. A turn gives each lane, in ascending order,
                one access; one that faults stalls its lane until the fault buffer is served. The
                buffer holds 256 records; what does not fit is lost and faults again.
  CPU faults    A page on the device comes home with what else of its granule is there.
  nouveau       A batch is sorted by page, reads first, and merged by page. A fault moves the granule
                around the page to VRAM: the faulting page first, then the others in ascending order,
                as far as there is room.
  VRAM          Chunks of 2 MiB, halved until there are 8, never below the granule; fewer than 4 are
                refused. Frames come from the chunk allocated into last, else from the lowest one with
                room. When none has room, the chunk that was allocated into least recently and that
                the batch does not use goes home as a whole: one eviction.
  mirror        No memory of its own: a fault maps what the host has in the granule. Nothing moves.
  Values        A write stores a hash of the seed and the number of the access.
  Modelled time A sum of counts times the constants of the preset; nothing overlaps.

Exit codes: 0 done, 1 the trace or a file is missing or broken, 2 the command line is wrong, 130 Ctrl-C.`;

export const EXAMPLES_HELP = `farfault examples [options]

Replays the recorded workloads of the repository (stencil, bfs, hashjoin) and prints them side by side.

Options:
${listed(MACHINE_OPTIONS)}

Their working set is about 2 MiB: try --vram 1MiB. The rules behind the numbers: farfault replay --help.`;

function listed(options: readonly OptionDescription[]): string {
  return options
    .flatMap(({ name, value, help }) => [`  --${name}${value === undefined ? '' : ` ${value}`}`, ...help.map((line) => `      ${line}`)])
    .join('\n');
}
