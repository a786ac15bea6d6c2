/** The same program leaves the same memory, whether the device brings and takes pages in one go or in steps, and whatever it refuses. */
import { describe, expect, test } from 'vitest';
import { type AddressSpace, MiB } from 'farfault';
import { PEER_CODES } from 'farfault/gmem';
import { expectClean, PAGE, smallMachine } from '../machine/probe.ts';
import { PeerDevice } from './peer-device.ts';

const PAGES = 12;
const OPERATIONS = 60;

interface Form {
  readonly coupled: boolean;
  readonly hands?: 'core' | 'imports' | 'places';
  /** One item in so many is refused, with a code by chance. 0: none. */
  readonly refusals?: number;
  readonly policy?: 'decoupled';
}

/** Runs the program of a seed and returns all that it read, and the memory at its end. */
function run(seed: number, form: Form): string {
  const machine = smallMachine({ dram: 2 * MiB });
  const peer = new PeerDevice({ pages: 6, granulePages: 2, hands: form.hands ?? 'core', coupled: form.coupled });
  const device = machine.addDevice(peer.driver, form.policy ? { form: form.policy } : {});
  const space = machine.createAddressSpace();
  const context = space.attach(device);
  const below = randomOf(seed);
  const chance = randomOf(seed + 1000);
  const range = space.mmap({ bytes: PAGES * PAGE });
  const children: AddressSpace[] = [];
  const seen: string[] = [];
  const at = (first: number, pages: number): { start: number; end: number } => ({
    start: range.start + first * PAGE,
    end: range.start + (first + pages) * PAGE,
  });
  for (let i = 0; i < OPERATIONS; i++) {
    const page = below(PAGES);
    const pages = 1 + below(PAGES - page);
    const addr = range.start + page * PAGE + below(PAGE);
    const value = 1 + below(255);
    peer.plans.length = 0;
    if (form.refusals && chance(form.refusals) === 0) {
      const codes = PEER_CODES.filter((code) => code !== 'success' && code !== 'page exists');
      peer.plans.push({ operation: 'map', code: codes[chance(codes.length)]!, times: 1 });
    }
    switch (below(9)) {
      case 0:
      case 1:
        space.tryWrite(addr, Uint8Array.of(value));
        break;
      case 2:
      case 3:
        context.write(addr, Uint8Array.of(value));
        break;
      case 4:
        seen.push(`${i} ${space.read(addr, 1)[0]}`);
        break;
      case 5:
        context.migrate(at(page, pages), { to: 'device' });
        break;
      case 6:
        context.migrate(at(page, pages), { to: 'host' });
        break;
      case 7:
        space.madvise(at(page, pages), 'dontneed');
        break;
      default:
        if (children.length < 2) children.push(space.fork());
        else {
          space.mprotect(at(page, pages), 'r');
          seen.push(`${i} ${space.read(addr, 1)[0]}`);
          space.mprotect(at(page, pages), 'rw');
        }
    }
    expect(machine.verify()).toBe(undefined);
  }
  peer.plans.length = 0;
  for (const each of [space, ...children]) seen.push(sum(each.read(range.start, PAGES * PAGE)));
  expectClean(machine);
  for (const each of [...children, space]) each.close();
  for (const node of machine.nodes) expect([node.name, node.used]).toEqual([node.name, 0]);
  machine.close();
  return seen.join(', ');
}

/** Numbers below a bound, the same for the same seed. */
function randomOf(seed: number): (bound: number) => number {
  let state = (seed * 2654435761) >>> 0;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

function sum(bytes: Uint8Array): string {
  let hash = 2166136261;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 16777619);
  return (hash >>> 0).toString(16);
}

describe('the same program leaves the same memory', () => {
  test('in steps, in one go, with pages of the core, of the device in batches, of the device one by one, and with refusals', () => {
    for (let seed = 1; seed <= 6; seed++) {
      const steps = run(seed, { coupled: false });
      expect(run(seed, { coupled: true })).toBe(steps);
      expect(run(seed, { coupled: true, policy: 'decoupled' })).toBe(steps);
      for (const hands of ['imports', 'places'] as const) {
        expect(run(seed, { coupled: true, hands })).toBe(steps);
        expect(run(seed, { coupled: true, hands, refusals: 2 })).toBe(steps);
      }
      expect(run(seed, { coupled: true, hands: 'imports', policy: 'decoupled' })).toBe(steps);
    }
  });
});
