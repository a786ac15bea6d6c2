import { expect, test } from 'vitest';
import { ByteMap } from '../../sdk/testing/model/byte-map.ts';
import { checkMachine } from '../../sdk/testing/model/check.ts';
import type { JobAccess } from '../../sdk/testing/model/lanes.ts';
import { ModelMachine } from '../../sdk/testing/model/machine.ts';
import type { Prot } from '../../sdk/testing/model/vma.ts';
import { fill, observe } from '../../sdk/testing/model/value.ts';
import { random } from './random.ts';

const PAGES = 40;
const PROTS: readonly Prot[] = ['none', 'r', 'rw', 'rw', 'rw'];

/** Sixty random verbs on two spaces and three devices; memory and rights are kept a second time, byte by byte and page by page. */
function program(seed: number): void {
  const pick = random(seed);
  const machine = new ModelMachine({ dramPages: 200 });
  const devices = [
    machine.addNouveau({ name: 'small', vramPages: 4 + pick(9), granulePages: 1, faultEntries: 1 + pick(8) }),
    machine.addNouveau({ name: 'large', vramPages: 64 + pick(40), granulePages: 16, faultEntries: 1 + pick(8) }),
    machine.addMirror({ name: 'mirror', granulePages: 16, faultEntries: 1 + pick(8) }),
  ];
  const places = [0, 1].map(() => {
    const space = machine.createSpace();
    const contexts = devices.map((device) => machine.attach(space, device));
    return { space, contexts, bytes: new ByteMap(), prots: new Array<Prot | undefined>(PAGES).fill(undefined) };
  });
  const zeros = new Uint8Array(4096);
  const data = new Uint8Array(4096);

  for (let step = 0; step < 60; step++) {
    const { space, contexts, bytes, prots } = places[pick(2)]!;
    const vpn = pick(PAGES);
    const pages = 1 + pick(Math.min(PAGES - vpn, 12));
    const prot = PROTS[pick(PROTS.length)]!;
    const touched = (access: JobAccess): (Prot | undefined)[] =>
      [access.addr, access.addr + access.bytes - 1].map((addr) => prots[Math.floor(addr / 4096)]);
    const allowed = (access: JobAccess): boolean => touched(access).every((p) => p === 'rw' || (p === 'r' && !access.write));
    const access = (): JobAccess => {
      const wide = pick(3) === 0 ? 4096 : 8;
      return {
        addr: Math.max(0, pick(PAGES * 4096) - 4096),
        bytes: 1 + pick(wide),
        write: pick(2) === 0,
        lo: pick(2 ** 32),
        hi: pick(2 ** 32),
      };
    };
    const apply = (done: JobAccess, seen: { lo: number; hi: number }): void => {
      if (done.write) {
        fill(data, done.bytes, { lo: done.lo!, hi: done.hi! });
        bytes.write(done.addr, done.bytes, data);
      } else {
        bytes.read(done.addr, done.bytes, data);
        expect(seen).toEqual(observe(data, done.bytes));
      }
    };

    switch (pick(10)) {
      case 0:
      case 1:
        if (prots.slice(vpn, vpn + pages).some((p) => p !== undefined)) break;
        space.mmap(vpn, pages, prot);
        prots.fill(prot, vpn, vpn + pages);
        break;
      case 2:
        if (pick(2) === 0) {
          space.munmap(vpn, pages);
          prots.fill(undefined, vpn, vpn + pages);
        } else {
          space.dontneed(vpn, pages);
        }
        for (let page = vpn; page < vpn + pages; page++) bytes.write(page * 4096, 4096, zeros);
        break;
      case 3:
        space.mprotect(vpn, pages, prot);
        for (let page = vpn; page < vpn + pages; page++) if (prots[page] !== undefined) prots[page] = prot;
        break;
      case 4:
        contexts[pick(3)]!.migrate(vpn, pages);
        break;
      case 5:
        devices.forEach((device) => 'vram' in device && device.evict(pick(3)));
        break;
      case 6:
      case 7: {
        const one = access();
        if (one.write) fill(data, one.bytes, { lo: one.lo!, hi: one.hi! });
        const failure = space.cpu.access(one.addr, one.bytes, one.write, data);
        expect(failure === undefined).toBe(allowed(one));
        if (failure === undefined) apply(one, one.write ? { lo: 0, hi: 0 } : observe(data, one.bytes));
        break;
      }
      default: {
        const job = Array.from({ length: 1 + pick(30) }, access);
        const { order, cancelled, lo, hi } = contexts[pick(3)]!.submit(job, 1 + pick(8));
        for (const k of order) apply(job[k]!, { lo: lo[k]!, hi: hi[k]! });
        expect([...order, ...cancelled].sort((a, b) => a - b)).toEqual(job.map((_, k) => k));
        for (const [k, one] of job.entries()) expect(cancelled.includes(k)).toBe(!allowed(one));
      }
    }
    checkMachine(machine);
  }
}

test('random verbs keep the rules of the machine, and memory is what a plain map of bytes says', () => {
  for (let seed = 1; seed <= 60; seed++) {
    try {
      program(seed);
    } catch (error) {
      throw new Error(`program(${seed}) fails`, { cause: error });
    }
  }
});
