/**
 * A ledger of what a machine has given out: frames, mappings of spaces, table pages, pins' frames, pages of I/O virtual addresses. It says by name what has not come back.
 *
 * ```ts
 * const ledger = new Ledger(machine);
 * ...
 * expect(ledger.open()).toEqual([]);
 * ```
 */
import type { Machine } from 'farfault';
import * as L from '../../assembly/layout.ts';

export class Ledger {
  private readonly machine: Machine;
  private readonly before: ReadonlyMap<string, number>;

  constructor(machine: Machine) {
    this.machine = machine;
    this.before = this.entries();
  }

  /** What is out now and was not when the ledger was begun: a line each, with a name and where it is. */
  open(): string[] {
    const now = this.entries();
    const lines: string[] = [];
    for (const [name, count] of now) {
      const more = count - (this.before.get(name) ?? 0);
      if (more > 0) lines.push(more === 1 ? name : `${name}, ${more} times`);
    }
    // What came back although it had not been given out since.
    for (const [name, count] of this.before) if ((now.get(name) ?? 0) < count) lines.push(`${name} is gone`);
    return lines;
  }

  private entries(): Map<string, number> {
    const found = new Map<string, number>();
    const add = (name: string, count = 1): void => void found.set(name, (found.get(name) ?? 0) + count);
    const { machine } = this;
    const { core, nodes } = machine.platform;
    // The first node holds the pages of zeros, which are never given out.
    for (const node of nodes.list.slice(1)) {
      for (let from = 0; from < node.frames;) {
        const count = core.exports.usedFrames(node.index, from, core.area(L.AREA_LIST), L.WORDS_MAX);
        const next = core.stopIndex;
        for (const frame of core.words(L.AREA_LIST, count)) add(`${node.name}: page ${frame - node.base}, ${this.user(frame)}`);
        if (next <= from) break;
        from = next;
      }
    }
    for (const space of machine.spaces) {
      const name = (start: number, end: number): string =>
        `space ${space.id}: mapping 0x${(start * L.PAGE_BYTES).toString(16)}, ${end - start} pages`;
      space.vmas.each(0, 2 ** L.VPN_BITS, ({ start, end }) => add(name(start, end)));
    }
    for (const device of machine.devices) if (device.iommu?.mapped) add(`${device.name}: mapped for DMA`, device.iommu.mapped);
    return found;
  }

  private user(frame: number): string {
    const { core } = this.machine.platform;
    const record = core.frameRecord(frame);
    const maps = core.field(record, L.FRAME_MAPS) & L.MAPS_MASK;
    const refs = core.field(record, L.FRAME_REFS);
    if (maps > 0) return `mapped ${maps === 1 ? 'once' : `${maps} times`}`;
    return `held by ${refs === 1 ? 'one reference' : `${refs} references`}`;
  }
}
