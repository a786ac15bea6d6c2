/** The CPU of a space: TLB, then the home table, then a fault, then the same access again. */
import { checkAccess, EXECUTED, tryAccess } from './access.ts';
import { faultCause, resolve } from './fault.ts';
import { PAGE_BYTES } from './frame.ts';
import type { ModelSpace } from './space.ts';
import { Tlb } from './tlb.ts';
import { allows } from './vma.ts';

/** Why an access failed, and the first byte that was not done. */
export interface AccessFailure {
  reason: 'segfault' | 'no-memory';
  addr: number;
}

export class Cpu {
  readonly tlb: Tlb;
  readonly #space: ModelSpace;

  constructor(space: ModelSpace) {
    this.#space = space;
    this.tlb = new Tlb((vpn) => {
      const entry = space.pages.get(vpn);
      return entry !== undefined && entry.kind !== 'device' && allows(space.vmas.find(vpn), false) ? entry : undefined;
    }, space.counters.tlb.cpu);
  }

  /** One access of up to a page, which may cross into a second page: all or nothing. Loads into `data` or stores from it. */
  access(addr: number, bytes: number, write: boolean, data: Uint8Array): AccessFailure | undefined {
    checkAccess(addr, bytes);
    const { counters } = this.#space;
    for (;;) {
      const vpn = tryAccess(this.tlb, addr, bytes, write, data);
      if (vpn === EXECUTED) {
        counters.accesses.cpu += 1;
        counters.accesses[write ? 'write' : 'read'] += 1;
        return undefined;
      }
      const reason = this.#fault(vpn, write);
      if (reason !== undefined) return { reason, addr };
    }
  }

  /** A range of any length as one access per page, ascending. */
  range(addr: number, data: Uint8Array, write: boolean): AccessFailure | undefined {
    for (let done = 0; done < data.length;) {
      const bytes = Math.min(data.length - done, PAGE_BYTES - ((addr + done) % PAGE_BYTES));
      const failure = this.access(addr + done, bytes, write, data.subarray(done, done + bytes));
      if (failure !== undefined) return failure;
      done += bytes;
    }
    return undefined;
  }

  /** One fault. A segmentation fault has no cause and is not counted; one that finds no frame is. */
  #fault(vpn: number, write: boolean): AccessFailure['reason'] | undefined {
    const space = this.#space;
    if (!allows(space.vmas.find(vpn), write)) return 'segfault';
    const cause = faultCause(space, vpn, write);
    if (cause === undefined) throw new Error(`the CPU faults on page ${vpn}, which is present`);
    space.counters.faults.cpu += 1;
    space.counters.detail.cpuFaults[cause] += 1;
    return resolve(space, vpn, cause) ? undefined : 'no-memory';
  }
}
