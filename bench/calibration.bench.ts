/** One loop against itself: what it shows beside 1 is the noise of the machine. In C where there is a compiler. */
import type { Contender, Native, Row } from './row.ts';

const ITEMS = 1 << 16;

export function rows(): Row[] {
  const inC: Native = { program: 'memory', row: 'calibration', numbers: [64, 1] };
  return [
    { name: 'calibration', unit: 'ns', items: ITEMS, ours: inC, peers: [{ name: 'itself, in C', contender: inC }] },
    { name: 'calibration', unit: 'ns', items: ITEMS, ours: loop, peers: [{ name: 'itself', contender: loop }] },
  ];
}

function loop(): Contender {
  const words = new Uint32Array(2 * 64 * 1024).map((_, i) => Math.imul(i, 0x9e3779b1));
  let sum = 0;
  const run = (): void => {
    sum = 0;
    for (let i = 0; i < ITEMS; i++) sum = (sum + words[words[i]! & 0xffff]!) | 0;
  };
  return { run, checksum: () => sum >>> 0 };
}
