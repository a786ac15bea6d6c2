/** A small machine with one of everything, and all of its state as one number. */
import {
  type AddressRange,
  type AddressSpace,
  type Context,
  createMachineSync,
  type Device,
  type Link,
  type Machine,
  MiB,
  type MemoryFile,
  type Pin,
  type Ticket,
} from 'farfault';
import {
  type DmaMap,
  defineDriver,
  deviceTable,
  type DeviceTable,
  type Driver,
  type Hmm,
  type IntervalNotifier,
  type OwnMemory,
  type Stream,
  type StreamEvent,
} from 'farfault/gmem';

export const PAGE = 4096;

/** A device with two memories of its own, a ready-made table, and a command that does nothing. */
export function plainDriver(name = 'gpu'): Driver {
  return defineDriver(() => ({
    name,
    memory: [
      { name: 'ram', kind: 'private' as const, bytes: 16 * PAGE },
      { name: 'window', kind: 'coherent' as const, bytes: 16 * PAGE },
    ],
    atomics: ['native' as const],
    attach: (context: Context) => {
      deviceTable(context);
      return { command: () => ({ name: 'nothing', result: 0, next: () => 0 as const }) };
    },
  }))();
}

/** One of everything. */
export interface World {
  readonly machine: Machine;
  readonly space: AddressSpace;
  /** A second, empty space of the machine. */
  readonly other: AddressSpace;
  /** Eight pages: two at home, one on the device, one read-only to everybody, the rest never touched. */
  readonly range: AddressRange;
  /** Pages of a driver's mixed mapping. */
  readonly special: AddressRange;
  readonly device: Device;
  readonly context: Context;
  /** Two more devices, in no space; the first of them is linked with `device`. */
  readonly peers: readonly [Device, Device];
  readonly link: Link;
  readonly hmm: Hmm;
  readonly stream: Stream;
  readonly event: StreamEvent;
  readonly table: DeviceTable;
  /** Plugged in later; nothing is on it. */
  readonly memory: OwnMemory;
  readonly file: MemoryFile;
  /** Where the file is mapped. */
  readonly mapped: AddressRange;
  /** Held for writing, one page of its own. */
  readonly pin: Pin;
  readonly pinned: AddressRange;
  readonly notifier: IntervalNotifier;
  readonly dma: DmaMap;
  /** Nobody waits for it. */
  readonly ticket: Ticket;
  /** The pinned frame. */
  readonly frame: number;
}

export function makeWorld(): World {
  const machine = createMachineSync({ dram: 1 * MiB, deviceMemory: 1 * MiB, tablePages: 256, tables: 16 });
  const space = machine.createAddressSpace();
  const other = machine.createAddressSpace();
  const device = machine.addDevice(plainDriver());
  const context = space.attach(device);
  const peers = [machine.addDevice(plainDriver('peer')), machine.addDevice(plainDriver('far'))] as const;
  const link = machine.link(device, peers[0]);
  const memory = device.addMemory({ name: 'more', kind: 'private', bytes: 4 * PAGE });
  const range = space.mmap({ bytes: 8 * PAGE });
  space.write(range.start, new Uint8Array(3 * PAGE).fill(7));
  context.migrate({ start: range.start + 2 * PAGE, end: range.start + 3 * PAGE }, { to: 'device' });
  const special = space.mmap({ bytes: 2 * PAGE, special: 'mixed' });
  const file = machine.createFile({ content: new Uint8Array(PAGE + 5).fill(3) });
  const mapped = space.mmap({ bytes: 2 * PAGE, file, shared: true });
  space.write(mapped.start, Uint8Array.of(1));
  const pinned = space.mmap({ bytes: PAGE });
  space.write(pinned.start, Uint8Array.of(9));
  const { hmm } = context;
  const stream = context.stream();
  const pin = space.pin(pinned, { write: true, longTerm: true });
  return {
    machine,
    space,
    other,
    range,
    special,
    device,
    context,
    peers,
    link,
    hmm,
    stream,
    event: stream.record(),
    table: context.makeTable(),
    memory,
    file,
    mapped,
    pinned,
    pin,
    notifier: space.subscribe(range, { invalidate: () => true }),
    dma: hmm.dmaMap(4),
    ticket: context.ticket('nothing'),
    frame: pin.frames[0]!,
  };
}

class Hash {
  #value = 0x811c9dc5;

  word(word: number): void {
    this.#value = Math.imul(this.#value ^ word, 0x01000193);
    this.#value ^= this.#value >>> 13;
  }

  text(text: string): void {
    for (let i = 0; i < text.length; i++) this.word(text.charCodeAt(i));
    this.word(-1);
  }

  words(words: ArrayLike<number>): void {
    for (let i = 0; i < words.length; i++) this.word(words[i]!);
    this.word(-2);
  }

  get value(): number {
    return this.#value >>> 0;
  }
}

/**
 * All that a program can see of a machine, as one number: counters, nodes, devices and their memories, unfinished operations, and for every space its mappings, entries, subscriptions and
 * the bytes of its pages. For small machines.
 */
export function stateHash(machine: Machine): number {
  const hash = new Hash();
  const { core, spaces } = machine.platform;
  hash.text(JSON.stringify([machine.counters, machine.nodes, machine.pending]));
  for (const each of [machine.tickets, machine.strayErrors]) hash.word(each.length);
  for (const device of machine.devices) {
    hash.text(device.name);
    hash.words([device.contexts.length, device.iommu?.mapped ?? -1, ...device.memories.map(({ index }) => index)]);
  }
  for (const space of spaces.values()) {
    hash.text(space.dump());
    hash.words([space.id, space.notifiers.size, space.notifiers.sequence, space.notifiers.active, space.mirrors.length]);
    space.vmas.each(0, 2 ** 36, ({ start, end, prot, flags, offset }) => {
      hash.words([start, start / 2 ** 32, end, prot, flags, offset]);
      const entries = space.snapshot({ start: start * PAGE, end: end * PAGE });
      hash.words(entries);
      for (let page = 0; page < end - start; page++) {
        const frame = entries[page * 2]!;
        if (entries[page * 2 + 1] === 0 || !isFrame(machine, frame)) continue;
        const at = core.frameBytes(frame);
        if (at > 0) hash.words(core.u32.subarray(at >>> 2, (at + PAGE) >>> 2));
      }
    });
  }
  return hash.value;
}

function isFrame(machine: Machine, frame: number): boolean {
  return machine.platform.nodes.list.some((node) => node.holds(frame));
}
