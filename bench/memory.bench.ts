/** Memory that a table takes, by page mapped: counted, not timed. */
import { createMachineSync } from 'farfault';
import * as L from '../assembly/layout.ts';
import { type Contender, type Row, Timed } from './row.ts';

export interface Size {
  /** Pages mapped densely, 2 MiB apart, and by entries of 2 MiB. */
  readonly dense: number;
  readonly sparse: number;
  readonly huge: number;
}

const FULL: Size = { dense: 1 << 18, sparse: 1 << 12, huge: 1 << 26 };
const HUGE_PAGES = 2 ** L.HUGE_ORDER;

export function rows({ dense, sparse, huge }: Size = FULL): Row[] {
  const row = (name: string, ours: () => Contender, most?: number): Row => ({
    name: `memory.bytesPerPage.${name}`,
    unit: 'B',
    items: 1,
    ours,
    peers: [],
    ...(most === undefined ? {} : { goal: { most } }),
  });
  return [
    row('dense', () => table(dense, (exports, at) => exports.rangeMap(at, 0, dense, 1, PRESENT)), 8.2),
    row('sparse', () =>
      table(sparse, (exports, at) => {
        for (let i = 0; i < sparse; i++) exports.rangeMap(at, i * HUGE_PAGES, 1, i, PRESENT);
      }),
    ),
    row(
      'huge',
      () =>
        table(huge, (exports, at) => {
          for (let vpn = 0; vpn < huge; vpn += HUGE_PAGES) exports.rangeMapOrder(at, vpn, vpn, PRESENT, L.HUGE_ORDER);
        }),
      0.02,
    ),
    row('frameRecord', () => counted(L.FRAME_BYTES), 64),
  ];
}

const PRESENT = L.KIND_PRESENT | L.ENTRY_WRITE;
type Exports = ReturnType<typeof createMachineSync>['platform']['core']['exports'];

/** Bytes of the table pages of `pages` mapped pages, by page. */
function table(pages: number, map: (exports: Exports, table: number) => void): Contender {
  const { core } = createMachineSync({ dram: L.PAGE_BYTES, deviceMemory: 0, tablePages: 8192 }).platform;
  const before = core.header(L.H_PAGES_USED);
  map(core.exports, core.tableCreate([9, 9, 9, 9], false));
  return counted(((core.header(L.H_PAGES_USED) - before) * L.PAGE_BYTES) / pages);
}

function counted(bytes: number): Contender {
  return { run: new Timed(() => Promise.resolve(bytes)), checksum: () => 0 };
}
