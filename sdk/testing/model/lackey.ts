/** The text of `valgrind --tool=lackey --trace-mem=yes`, read in the simplest way: one regular expression a line. */

export interface TraceAccess {
  addr: number;
  bytes: number;
  write: boolean;
  device: boolean;
}

/** Instruction addresses [start, end) whose data accesses are the device's. */
export interface OffloadRange {
  start: number;
  end: number;
}

const LINE = /^(I | [LSM]) ([0-9a-fA-F]+),(\d+)\r?$/;

/**
 * The data accesses of a trace, M as a read and then a write. An access belongs to the instruction line above it; without ranges all are
 * the device's. Blank lines and valgrind's own (`==`, `--`, `**`) are skipped.
 */
export function* lackeyAccesses(lines: Iterable<string>, offload?: readonly OffloadRange[]): Generator<TraceAccess> {
  const ranges = offload ?? [];
  let device = ranges.length === 0;
  for (const line of lines) {
    if (/^(|==.*|--.*|\*\*.*)\r?$/.test(line)) continue;
    const match = LINE.exec(line);
    if (match === null) throw new Error(`not a lackey line: ${JSON.stringify(line)}`);
    const kind = match[1]!.trim();
    const addr = parseInt(match[2]!, 16);
    const bytes = Number(match[3]);
    if (kind === 'I') {
      if (ranges.length > 0) device = ranges.some(({ start, end }) => addr >= start && addr < end);
      continue;
    }
    if (kind !== 'S') yield { addr, bytes, write: false, device };
    if (kind !== 'L') yield { addr, bytes, write: true, device };
  }
}
