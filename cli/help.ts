/** What `--help` prints. */
import type { OptionDescription } from './arguments.ts';
import { GRADE_OPTIONS, SHIPPED_DRIVERS } from './grade.ts';
import { MACHINE_OPTIONS, REPLAY_OPTIONS } from './replay.ts';

export const HELP = `farfault: a user-space machine with the semantics of Linux heterogeneous memory management

Usage:
  farfault replay <trace | -> [options]    replay a recorded program through a device
  farfault examples [options]              replay the three recorded workloads of the repository
  farfault new-driver <name> [dir]         write a small package: a driver, its test
  farfault grade <driver> [options]        run a driver through the driver contract
  farfault <command> --help                options, and the rules that the numbers depend on
  farfault --version

Exit codes: 0 done, 1 the trace or a file is missing or broken, or a driver fails a case, 2 the command line is wrong, 130 Ctrl-C.
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
  --policy      nouveau leaves its memory to the machine: single pages, and the policy chooses which of
                them go. Marks of what was used are taken when there is need of room.
  --swap        A page that the host has no room for goes to the second tier: one that the CPU has not
                used since it was last looked at. What is still true there goes without a copy.
  mirror        No memory of its own: a fault maps what the host has in the granule. Nothing moves.
  npu           A fault brings the granule with one message; so is the way home. It hands out the
                lowest page that is free, and says when none is: the oldest go home then.
  Values        A write stores a hash of the seed and the number of the access.
  Modelled time A sum of counts times the constants of the preset; nothing overlaps.

Exit codes: 0 done, 1 the trace or a file is missing or broken, 2 the command line is wrong, 130 Ctrl-C.`;

export const EXAMPLES_HELP = `farfault examples [options]

Replays the recorded workloads of the repository (stencil, bfs, hashjoin) and prints them side by side.

Options:
${listed(MACHINE_OPTIONS)}

Their working set is about 2 MiB: try --vram 1MiB. The rules behind the numbers: farfault replay --help.`;

export const GRADE_HELP = `farfault grade <driver> [options]

Runs a driver through the driver contract: rules that hold for every driver, each a case on a machine of its
own. Prints a line a case: passed, failed, or not applicable and why. For a failure, the rule, what was seen,
the state before and after (a letter a page), the calls of the driver around it, and the command that
replays it.

On a terminal the case that is being run is shown. One that takes more than ten seconds is told on standard
error, with the line of the driver that is running: a loop over too many pages, or one without an end.

The driver is a module, ./my-driver.js, that exports defineDriver(...) by default, or one of
  ${SHIPPED_DRIVERS.join(', ')}
What its author says about it is an export of the same module, called expectations, all optional:
  export const expectations = {
    options: { vram: 262144 },                     made with these in each case: small memories, short tests
    machine: { dram: 67108864 },                   sizes of the machine
    settle: (driver) => { ... },                   lets the device go on, when time alone does not
    notApplicable: { 'name of a case': 'why' },    cases that do not fit this device
    exercise: async (bench) => { ... },            what this device in particular must do
    seed: 1,                                       of what is random
    cases: ['name of a case'],                     only these
  };

Options:
${listed(GRADE_OPTIONS)}

Exit codes: 0 all passed, 1 a case failed, 2 the command line is wrong or the driver cannot be loaded,
130 Ctrl-C.`;

export const NEW_DRIVER_HELP = `farfault new-driver <name> [dir]

Writes a small package: a driver with a page table and memory of its own, and the test that runs it through
the driver contract. It passes as written; make it your device step by step.

  name   names the device and its memory: 1 to 32 lower-case letters, digits or -, a letter first
  dir    where it goes; default ./<name>. Folders that do not exist are made.

Nothing is overwritten: where one of its files exists already, nothing is written at all.

Exit codes: 0 done, 1 a file exists already or cannot be written, 2 the command line is wrong.`;

function listed(options: readonly OptionDescription[]): string {
  return options
    .flatMap(({ name, value, help }) => [`  --${name}${value === undefined ? '' : ` ${value}`}`, ...help.map((line) => `      ${line}`)])
    .join('\n');
}
