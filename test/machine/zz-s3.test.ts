import { expect, test } from 'vitest';
import { type AddressSpace, type Context, createMachineSync, type Device, isFarfaultError, MiB } from 'farfault';
import { type Driver, type MemoryDescription } from 'farfault/gmem';
import { Fork } from 'farfault/mm';

const PAGE = 4096;
function rng(seed: number) {
  let s = seed >>> 0;
  return (n: number): number => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return Math.floor((s / 2 ** 32) * n);
  };
}
const dev = (name: string, memory: MemoryDescription[], granuleBytes: number, atomics: Driver['atomics'], engine: boolean): Driver => ({
  name, memory, granuleBytes, pageBytes: granuleBytes > PAGE ? [PAGE, 2 * MiB] : [PAGE], ...(atomics ? { atomics } : {}),
  attach: () => (engine ? { copy: { toDevice: (c) => c.perform(), toHost: (c) => c.perform(), zero: (c) => c.perform() } } : {}),
});
const SEEDS = Number(process.env.SEEDS ?? 40), FROM = Number(process.env.FROM ?? 1), OPS = 500;
for (let seed = FROM; seed < FROM + SEEDS; seed++)
  test(`stress ${seed}`, () => {
    const pick = rng(seed * 7919);
    const tight = seed % 3 === 0;
    const machine = createMachineSync({ dram: (tight ? 7 : 24) * MiB, deviceMemory: 32 * MiB, tablePages: 1024 });
    const PAGES = 1024;
    const devices: Device[] = [
      machine.addDevice(dev('big', [{ name: 'm0', kind: 'private', bytes: 3 * MiB }], 2 * MiB, ['migrate', 'exclusive'], seed % 2 === 0)),
      machine.addDevice(dev('coh', [{ name: 'm0', kind: 'coherent', bytes: 4 * MiB }, { name: 'm1', kind: 'private', bytes: 1 * MiB }], PAGE * 2 ** (seed % 4 * 3), ['exclusive'], seed % 5 === 0)),
      machine.addDevice(dev('mir', [], PAGE * 16, ['native'], false)),
    ];
    interface P { space: AddressSpace; bytes: Uint16Array; contexts: (Context | undefined)[]; prot: Uint8Array }
    const first = machine.createAddressSpace();
    const range = first.mmap({ bytes: PAGES * PAGE, align: 2 * MiB });
    first.madvise({ start: range.start, end: range.start + 2 * MiB }, 'hugepage');
    const procs: P[] = [{ space: first, bytes: new Uint16Array(PAGES), contexts: [undefined, undefined, undefined], prot: new Uint8Array(PAGES).fill(3) }];
    const at = (p: number) => range.start + p * PAGE;
    let value = 1;
    const log: string[] = [];
    const tryIt = (what: string, f: () => void): boolean => {
      log.push(what);
      try { f(); return true; } catch (e) {
        if (isFarfaultError(e) && ['ENOMEM', 'EAGAIN', 'EBUSY'].includes(e.code)) { log.push('  ' + e.message); return false; }
        console.log(log.slice(-25).join('\n')); throw e;
      }
    };
    for (let op = 0; op < OPS; op++) {
      const pr = procs[pick(procs.length)]!;
      const p = pick(PAGES), n = 1 + pick(pick(3) === 0 ? PAGES - p : Math.min(40, PAGES - p));
      const r = pick(3) === 0 ? { start: at(p & ~511), end: at((p & ~511) + 512) } : { start: at(p), end: at(Math.min(PAGES, p + n)) };
      const first_ = (r.start - range.start) / PAGE, last = (r.end - range.start) / PAGE;
      const d = pick(3);
      const ctx = pr.contexts[d];
      const id = procs.indexOf(pr);
      const k = pick(22);
      if (k < 4) {
        for (let q = first_; q < last; q += 1 + pick(20)) if (pr.prot[q]! & 2) { const v = value++ & 0xffff; if (tryIt(`${id} cpu w ${q}`, () => pr.space.write(at(q) + 2, Uint8Array.of(v, v >> 8)))) pr.bytes[q] = v; }
      } else if (k < 6) {
        for (let q = first_; q < last; q += 1 + pick(20)) if (pr.prot[q]) tryIt(`${id} cpu r ${q}`, () => { const b = pr.space.read(at(q) + 2, 2); expect(b[0]! | (b[1]! << 8)).toBe(pr.bytes[q]); });
      } else if (k < 9 && ctx) {
        for (let q = first_; q < last; q += 1 + pick(20)) if (pr.prot[q]! & 2) { const v = value++ & 0xffff; if (tryIt(`${id} dev${d} w ${q}`, () => ctx.write(at(q) + 2, Uint8Array.of(v, v >> 8)))) pr.bytes[q] = v; }
      } else if (k < 11 && ctx) {
        for (let q = first_; q < last; q += 1 + pick(20)) if (pr.prot[q]) tryIt(`${id} dev${d} r ${q}`, () => { const b = ctx.read(at(q) + 2, 2); expect(b[0]! | (b[1]! << 8)).toBe(pr.bytes[q]); });
      } else if (k < 13 && ctx && d < 2 && ctx.device.memory) {
        const list = ctx.device.memories; const m = pick(2) ? list[pick(list.length)]!.index : undefined;
        tryIt(`${id} migrate dev${d} ${first_}-${last} mem ${m}`, () => void ctx.migrate(r, { to: pick(2) ? 'device' : 'host', ...(m === undefined ? {} : { memory: m }) }));
      } else if (k < 14 && ctx) {
        for (let q = first_; q < Math.min(last, first_ + 6); q++) if (pr.prot[q]! & 2)
          tryIt(`${id} dev${d} atomic ${q}`, () => { const old = ctx.atomic(at(q), { op: 'add', bytes: 4, operand: 65536 }); expect(old >>> 16).toBe(pr.bytes[q]); pr.bytes[q] = pr.bytes[q]! + 1; });
      } else if (k === 14) {
        if (!ctx) tryIt(`${id} attach ${d}`, () => { pr.contexts[d] = pr.space.attach(devices[d]!); });
        else if (pick(3) === 0) { if (tryIt(`${id} detach ${d}`, () => ctx.detach())) pr.contexts[d] = undefined; }
      } else if (k === 15) {
        const prot = pick(3);
        tryIt(`${id} mprotect ${first_}-${last} ${prot}`, () => { pr.space.mprotect(r, prot === 0 ? 'none' : prot === 1 ? 'r' : 'rw'); for (let q = first_; q < last; q++) pr.prot[q] = prot === 0 ? 0 : prot === 1 ? 1 : 3; });
      } else if (k === 16) {
        tryIt(`${id} mprotect all rw`, () => { pr.space.mprotect(range, 'rw'); pr.prot.fill(3); });
      } else if (k === 17 && procs.length < 4 && pick(2)) {
        tryIt(`${id} fork`, () => {
          const f = new Fork(machine.platform, pr.space, {});
          machine.platform.scheduler.runSync(f);
          if (f.outcome === 'done') procs.push({ space: f.result!, bytes: pr.bytes.slice(), contexts: [undefined, undefined, undefined], prot: pr.prot.slice() });
        });
      } else if (k === 18 && procs.length > 1 && pick(3) === 0) {
        if (tryIt(`${id} exit`, () => pr.space.close())) procs.splice(id, 1);
      } else if (k === 19 && pick(2)) {
        tryIt(`${id} dontneed ${first_}-${last}`, () => { pr.space.madvise(r, 'dontneed'); pr.bytes.fill(0, first_, last); });
      } else if (k === 20) {
        const device = devices[pick(2)]!;
        const list = device.memories;
        if (pick(2) && list.length > 0) tryIt(`unplug ${device.name}`, () => device.removeMemory(list[pick(list.length)]!));
        else if (list.length < 3) tryIt(`plug ${device.name}`, () => { device.addMemory({ name: `x${value++}`, kind: pick(2) ? 'private' : 'coherent', bytes: (1 + pick(4)) * MiB }); });
      } else if (k === 21 && pick(4) === 0) tryIt(`${id} collapse`, () => { try { pr.space.madvise({ start: range.start, end: range.start + 2 * MiB }, 'collapse'); } catch (e) { if (!isFarfaultError(e) || e.code !== 'EINVAL') throw e; } });
      if (op % 8 === 0) { const bad = machine.verify(); if (bad !== undefined || machine.strayErrors.length > 0) { console.log(log.slice(-30).join('\n')); expect(bad).toBe(undefined); expect(machine.strayErrors).toEqual([]); } }
    }
    for (const pr of procs) {
      pr.space.mprotect(range, 'rw');
      for (let q = 0; q < PAGES; q++) {
        let b: Uint8Array;
        try { b = pr.space.read(at(q) + 2, 2); } catch (e) { if (isFarfaultError(e) && e.code === 'ENOMEM') continue; throw e; }
        if ((b[0]! | (b[1]! << 8)) !== pr.bytes[q]) { console.log(log.slice(-40).join('\n')); expect([q, b[0]! | (b[1]! << 8)]).toEqual([q, pr.bytes[q]]); }
      }
    }
    for (const pr of procs) pr.space.close();
    expect(machine.nodes.filter((n) => n.used > 0)).toEqual([]);
    expect(machine.verify()).toBe(undefined);
    expect(machine.strayErrors).toEqual([]);
    machine.close();
  });
