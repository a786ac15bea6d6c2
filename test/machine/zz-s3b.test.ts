import { expect, test } from 'vitest';
import { type AddressSpace, type Context, createMachineSync, isFarfaultError, MiB } from 'farfault';
import { deviceTable, deviceTlb, type Copies, type Driver, type MemoryDescription, type Ranges, type Ticket } from 'farfault/gmem';
import { Fork, MakeExclusive } from 'farfault/mm';

const PAGE = 4096;
function rng(seed: number) {
  let s = seed >>> 0;
  return (n: number): number => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return Math.floor((s / 2 ** 32) * n);
  };
}
const SEEDS = Number(process.env.SEEDS ?? 40), FROM = Number(process.env.FROM ?? 1);
for (let seed = FROM; seed < FROM + SEEDS; seed++)
  test(`async ${seed}`, async () => {
    const pick = rng(seed * 104729);
    const machine = createMachineSync({ dram: (seed % 3 ? 16 : 5) * MiB, deviceMemory: 16 * MiB, tablePages: 1024 });
    const open: { ticket: Ticket; work: () => void }[] = [];
    const later = (ticket: () => Ticket, work: () => void): Ticket | void => {
      if (pick(2)) return work();
      const t = ticket();
      open.push({ ticket: t, work });
      return t;
    };
    const dev = (name: string, memory: MemoryDescription[], granuleBytes: number): Driver => ({
      name, memory, granuleBytes, pageBytes: granuleBytes > PAGE ? [PAGE, 2 * MiB] : [PAGE], atomics: ['exclusive', 'native'],
      attach(context) {
        const table = deviceTable(context);
        const tlb = deviceTlb(context);
        const engine = (c: Copies): Ticket | void => { const kept = c.keep(); return later(() => context.ticket('copy'), () => kept.perform()); };
        return {
          pmap: table,
          tlb: { invalidate: (r: Ranges) => { const list: [number, number][] = []; r.each((v, p) => list.push([v, p])); tlb.invalidate(r); return later(() => context.ticket('flush'), () => {}); } },
          copy: { toDevice: engine, toHost: engine, zero: engine },
        };
      },
    });
    const PAGES = 1024;
    const a = machine.addDevice(dev('a', [{ name: 'm', kind: 'private', bytes: 3 * MiB }], 2 * MiB));
    const b = machine.addDevice(dev('b', [{ name: 'm', kind: 'coherent', bytes: 1 * MiB }, { name: 'n', kind: 'private', bytes: 1 * MiB }], 8 * PAGE));
    const spaces: AddressSpace[] = [machine.createAddressSpace()];
    const range = spaces[0]!.mmap({ bytes: PAGES * PAGE, align: 2 * MiB });
    spaces[0]!.madvise({ start: range.start, end: range.start + 2 * MiB }, 'hugepage');
    const contexts: Map<AddressSpace, Context[]> = new Map();
    contexts.set(spaces[0]!, [spaces[0]!.attach(a), spaces[0]!.attach(b)]);
    const at = (p: number) => range.start + p * PAGE;
    // Every page holds its own number in bytes 4..5, set once; nobody changes them, so every read is checkable at any time.
    const stamp = (p: number) => Uint8Array.of(p & 0xff, p >> 8);
    for (let p = 0; p < PAGES; p++) spaces[0]!.write(at(p) + 4, stamp(p));
    const jobs: Promise<unknown>[] = [];
    let bad: unknown;
    const go = (p: Promise<unknown>): void => void jobs.push(p.catch((e: unknown) => { if (!(isFarfaultError(e) && ['ENOMEM', 'EAGAIN', 'EBUSY', 'EFAULT', 'EINVAL', 'ENODEV', 'EOPNOTSUPP'].includes(e.code))) bad ??= e; else if (e.code === 'EIO') bad ??= e; }));
    const check = async (p: number, r: Promise<Uint8Array>): Promise<void> => { const v = await r; if (v[0] !== (p & 0xff) || v[1] !== p >> 8) throw new Error(`page ${p} reads ${v[0]! | (v[1]! << 8)}`); };
    for (let op = 0; op < 150; op++) {
      const space = spaces[pick(spaces.length)]!;
      const own = contexts.get(space)!;
      const ctx = own[pick(own.length)]!;
      const p = pick(PAGES), n = 1 + pick(30);
      const r = pick(3) === 0 ? { start: at(p & ~511), end: at((p & ~511) + 512) } : { start: at(p), end: at(Math.min(PAGES, p + n)) };
      switch (pick(13)) {
        case 0: case 1: go(check(p, space.readAsync(at(p) + 4, 2))); break;
        case 2: go(space.writeAsync(at(p) + 100, Uint8Array.of(op))); break;
        case 3: case 4: if (ctx) go(check(p, ctx.readAsync(at(p) + 4, 2))); break;
        case 5: if (ctx) go(ctx.writeAsync(at(p) + 200, Uint8Array.of(op))); break;
        case 6: case 7: if (ctx?.device.memory) go(ctx.migrateAsync(r, { to: pick(2) ? 'device' : 'host' })); break;
        case 8: if (ctx) go(ctx.atomicAsync(at(p) + 300, { op: 'add', bytes: 4, operand: 1 })); break;
        case 9: if (spaces.length < 3 && pick(3) === 0) { const f = new Fork(machine.platform, space, {}); go(machine.platform.scheduler.runAsync(f).then(() => { if (f.result) { spaces.push(f.result); contexts.set(f.result, pick(2) ? [f.result.attach(a), f.result.attach(b)] : []); } })); } break;
        case 10: { const m = new MakeExclusive(machine.platform); go(machine.platform.scheduler.runAsync(m.of(space, p + range.start / PAGE, 0, { cpuReads: pick(2) === 0 }, () => {}))); break; }
        case 11: if (pick(4) === 0) { const device = pick(2) ? a : b; const m = device.memories[pick(Math.max(1, device.memories.length))]; if (m) go(device.removeMemoryAsync(m).then(() => device.addMemory({ name: `x${op}`, kind: pick(2) ? 'coherent' : 'private', bytes: 2 * MiB }))); } break;
        case 12: if (ctx) go(ctx.faultAsync(at(p), pick(2) ? 'write' : 'read')); break;
      }
      for (let k = pick(3); k > 0 && open.length > 0; k--) { const [t] = open.splice(pick(open.length), 1); t!.work(); t!.ticket.complete(); }
      if (pick(5) === 0) await Promise.resolve();
      if (op % 10 === 0 && bad === undefined) { const v = machine.verify(); if (v !== undefined) bad = new Error(v); }
      if (bad) break;
    }
    for (let guard = 0; guard < 10000; guard++) {
      while (open.length > 0) { const [t] = open.splice(pick(open.length), 1); t!.work(); t!.ticket.complete(); }
      await Promise.resolve();
      if (open.length === 0 && machine.pending.length === 0) break;
    }
    if (bad) throw bad;
    expect(machine.pending).toEqual([]);
    await Promise.all(jobs);
    if (bad) throw bad;
    expect(machine.verify()).toBe(undefined);
    expect(machine.strayErrors).toEqual([]);
    machine.close();
  });
