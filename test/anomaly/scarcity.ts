/** Real resources of a machine, made scarce: everything but the last few is taken away, and given back afterwards. */
import type { Machine } from 'farfault';
import * as L from '../../assembly/layout.ts';

/** One resource. */
export interface Resource {
  readonly name: string;
  /** How many are free; undefined when the machine has none of them at all. */
  free(machine: Machine): number | undefined;
  /** Takes all but `n` away. The returned function gives back what was taken. */
  leave(machine: Machine, n: number): () => void;
}

/** Takes frames of one order of a node until `n` of them are left, or fewer. */
function hoard(machine: Machine, node: number, order: number, n: number): () => void {
  const { core } = machine.platform;
  const taken: number[] = [];
  for (let frame = core.exports.frameTake(node, order); frame >= 0; frame = core.exports.frameTake(node, order)) taken.push(frame);
  for (let i = 0; i < n && taken.length > 0; i++) core.exports.framePut(taken.pop()!);
  return () => {
    for (const frame of taken) core.exports.framePut(frame);
  };
}

const hostOf = (machine: Machine): number => machine.platform.host.index;
/** The first memory of a device, when the core hands its frames out. */
const deviceOf = (machine: Machine): number | undefined =>
  machine.platform.nodes.list.find(({ owner, allocator }) => owner > 0 && allocator === 'core')?.index;

function freeBlocks(machine: Machine, node: number): number {
  const { core } = machine.platform;
  let blocks = 0;
  for (let order = L.HUGE_ORDER; order <= L.ORDER_MAX; order++)
    blocks += core.field(core.nodeRecord(node), L.NODE_COUNTS + order * 4) * 2 ** (order - L.HUGE_ORDER);
  return blocks;
}

/** Huge frames that are broken up for small ones: half of their pages stay free. */
const BROKEN = 3;

/** A limit in the header that is lowered. */
function lowered(machine: Machine, field: number, limit: number): () => void {
  const { core } = machine.platform;
  const before = core.header(field);
  core.setHeader(field, limit);
  return () => core.setHeader(field, before);
}

export const hostFrames: Resource = {
  name: 'host frame',
  free: (machine) => machine.platform.host.free,
  leave: (machine, n) => hoard(machine, hostOf(machine), 0, n),
};

/** Small ones there are plenty of, none of them next to each other. */
export const hugeHostFrames: Resource = {
  name: 'huge host frame',
  free: (machine) => freeBlocks(machine, hostOf(machine)),
  leave(machine, n) {
    const { core } = machine.platform;
    const node = hostOf(machine);
    const blocks: number[] = [];
    for (let frame = core.exports.frameTake(node, L.HUGE_ORDER); frame >= 0; frame = core.exports.frameTake(node, L.HUGE_ORDER))
      blocks.push(frame);
    for (let i = 0; i < BROKEN && blocks.length > 0; i++) core.exports.framePut(blocks.pop()!);
    const small: number[] = [];
    for (let frame = core.exports.frameTake(node, 0); frame >= 0; frame = core.exports.frameTake(node, 0)) small.push(frame);
    for (const frame of small) if (frame % 2 === 0) core.exports.framePut(frame);
    for (let i = 0; i < n && blocks.length > 0; i++) core.exports.framePut(blocks.pop()!);
    return () => {
      for (const frame of small) if (frame % 2 !== 0) core.exports.framePut(frame);
      for (const frame of blocks) core.exports.framePut(frame);
    };
  },
};

export const deviceFrames: Resource = {
  name: 'device frame',
  free: (machine) => {
    const node = deviceOf(machine);
    return node === undefined ? undefined : machine.platform.nodes.list.find(({ index }) => index === node)!.free;
  },
  leave: (machine, n) => hoard(machine, deviceOf(machine)!, 0, n),
};

export const tablePages: Resource = {
  name: 'table page',
  free: ({ platform: { core } }) => core.header(L.H_PAGES_MAX) - core.header(L.H_PAGES_USED) - core.header(L.H_PAGES_DEPOSITED),
  leave: (machine, n) => {
    const { core } = machine.platform;
    return lowered(machine, L.H_PAGES_MAX, core.header(L.H_PAGES_USED) + core.header(L.H_PAGES_DEPOSITED) + n);
  },
};

export const records: Resource = {
  name: 'reverse-map record',
  free: ({ platform: { core } }) => core.header(L.H_CHAIN_MAX) - 1 - core.header(L.H_CHAIN_USED) - core.header(L.H_CHAIN_RESERVED),
  leave: (machine, n) => {
    const { core } = machine.platform;
    return lowered(machine, L.H_CHAIN_MAX, core.header(L.H_CHAIN_USED) + core.header(L.H_CHAIN_RESERVED) + 1 + n);
  },
};

export const RESOURCES: readonly Resource[] = [hostFrames, hugeHostFrames, deviceFrames, tablePages, records];
