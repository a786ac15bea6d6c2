/** D8: a node of another machine. A network peer is a device: its memory is reached over a link that is not coherent, by a copy engine of its own whose tickets end when the messages have arrived. */
import { afterEach, describe, expect, test } from 'vitest';
import { type Context, isFarfaultError, type Machine } from 'farfault';
import { type Copies, defineDriver, deviceTlb, type Driver, type GmMmu, type Ticket } from 'farfault/gmem';
import { expectClean, PAGE, probeDriver, smallMachine, used } from '../machine/probe.ts';

/** Pages in one message. */
const MESSAGE_PAGES = 2;

interface Message {
  readonly pages: number;
  /** Done by the last message of a transfer. */
  readonly arrive?: { readonly work: () => void; readonly ticket: Ticket };
}

/** A wire: messages arrive in the order of their sending, when somebody lets them. */
class Network {
  sent = 0;
  pages = 0;
  private readonly queue: Message[] = [];

  get inFlight(): number {
    return this.queue.length;
  }

  /** Sends pages in messages; the bytes are there when the last one has arrived. */
  send(pages: number, ticket: Ticket, work: () => void): Ticket {
    for (let left = pages; left > 0; left -= MESSAGE_PAGES) {
      const arrive = left <= MESSAGE_PAGES ? { arrive: { work, ticket } } : {};
      this.queue.push({ pages: Math.min(left, MESSAGE_PAGES), ...arrive });
    }
    return ticket;
  }

  deliver(messages = Infinity): void {
    for (; messages > 0 && this.queue.length > 0; messages--) {
      const { pages, arrive } = this.queue.shift()!;
      this.sent++;
      this.pages += pages;
      arrive?.work();
      arrive?.ticket.complete();
    }
  }

  /** The wire breaks: what is under way never arrives. */
  cut(): void {
    for (const { arrive } of this.queue.splice(0)) arrive?.ticket.fail('the wire is cut');
  }
}

/** A machine at the other end of a wire: its memory, and a processor that works there. */
const networkPeer = defineDriver(
  ({ name = 'remote', network = new Network(), pages = 16 }: { name?: string; network?: Network; pages?: number } = {}): Driver => ({
    name,
    memory: [{ name: 'dram', kind: 'private', bytes: pages * PAGE }],
    attach(context): GmMmu {
      const transfer = (what: string) => (copies: Copies) => {
        const kept = copies.keep();
        return network.send(kept.pages, context.ticket(what), () => kept.perform());
      };
      return {
        tlb: deviceTlb(context),
        // Zeros are made over there: nothing is sent.
        copy: { toDevice: transfer('write'), toHost: transfer('read'), peer: transfer('peer') },
      };
    },
  }),
);

const open: Machine[] = [];
afterEach(() => {
  for (const machine of open.splice(0)) machine.close();
});

interface World {
  readonly machine: Machine;
  readonly network: Network;
  readonly gpu: Context;
  readonly remote: Context;
  readonly moves: string[];
}

function world({ linked = true } = {}): World {
  const machine = smallMachine();
  open.push(machine);
  const network = new Network();
  const local = machine.addDevice(probeDriver({ name: 'gpu' }));
  const far = machine.addDevice(networkPeer({ network }));
  if (linked) machine.link(local, far);
  const space = machine.createAddressSpace();
  const moves: string[] = [];
  machine.onEvent((event) => {
    if (event.type === 'pages.migrated') moves.push(`${event.pages} ${event.from} -> ${event.to} (${event.way})`);
  });
  return { machine, network, gpu: space.attach(local), remote: space.attach(far), moves };
}

/** Lets messages arrive until the operation has ended. */
async function arrived<T>({ network }: World, operation: Promise<T>): Promise<T> {
  let ended = false;
  void operation.then(
    () => (ended = true),
    () => (ended = true),
  );
  for (let rounds = 0; !ended && rounds < 100; rounds++) {
    network.deliver(1);
    await Promise.resolve();
    await Promise.resolve();
  }
  return operation;
}

async function end(it: World): Promise<void> {
  expectClean(it.machine);
  await arrived(it, it.gpu.space.closeAsync());
  expect(used(it.machine)).toMatch(/^(\S+ 0(, )?)+$/);
  expectClean(it.machine);
}

describe('a node of another machine', () => {
  test('takes pages over the wire, and works on them there', async () => {
    const it = world();
    const { space } = it.remote;
    const range = space.mmap({ bytes: 5 * PAGE });
    for (let page = 0; page < 5; page++) space.write(range.start + page * PAGE, Uint8Array.of(page + 1));
    expect(await arrived(it, it.remote.migrateAsync(range, { to: 'device' }))).toBe(5);
    expect(it.network).toMatchObject({ sent: 3, pages: 5 });
    // It is there: no message for what is done there.
    it.remote.write(range.start + 1, Uint8Array.of(9));
    expect([...it.remote.read(range.start, 2)]).toEqual([1, 9]);
    expect(it.network.sent).toBe(3);
    expect([...(await arrived(it, space.readAsync(range.start, 2)))]).toEqual([1, 9]);
    expect(it.network.sent).toBe(4);
    await end(it);
  });

  test('makes who touches its page wait for the messages; a call that cannot wait is told so', async () => {
    const it = world();
    const { space } = it.remote;
    const { start } = space.mmap({ bytes: PAGE });
    it.remote.write(start, Uint8Array.of(1));
    const busy = ((): unknown => {
      try {
        return space.read(start, 1);
      } catch (error) {
        return error;
      }
    })();
    expect(isFarfaultError(busy) && busy.code).toBe('EBUSY');
    // Meanwhile everything else goes on.
    const other = space.mmap({ bytes: PAGE });
    space.write(other.start, Uint8Array.of(5));
    expect(it.network.inFlight).toBe(1);
    it.network.deliver();
    expect([...space.read(start, 1)]).toEqual([1]);
    await end(it);
  });

  test('hands pages to a local device, and gets them, in one trip over the wire', async () => {
    const it = world();
    const { start } = it.gpu.space.mmap({ bytes: PAGE });
    it.gpu.write(start, Uint8Array.of(1));
    it.moves.length = 0;
    await arrived(it, it.remote.writeAsync(start + 1, Uint8Array.of(2)));
    expect([...(await arrived(it, it.gpu.readAsync(start, 2)))]).toEqual([1, 2]);
    expect(it.moves).toEqual(['1 gpu.ram -> remote.dram (peer)', '1 remote.dram -> gpu.ram (peer)']);
    expect(it.network.sent).toBe(2);
    await end(it);
    // Without the link each trip goes by way of the host.
    const apart = world({ linked: false });
    const page = apart.gpu.space.mmap({ bytes: PAGE }).start;
    apart.gpu.write(page, Uint8Array.of(1));
    apart.moves.length = 0;
    await arrived(apart, apart.remote.writeAsync(page + 1, Uint8Array.of(2)));
    expect(apart.moves).toEqual(['1 gpu.ram -> dram (toHost)', '1 dram -> remote.dram (toDevice)']);
    await end(apart);
  });

  test('is never used remotely: nothing but messages crosses the wire', async () => {
    const it = world();
    const range = it.gpu.space.mmap({ bytes: PAGE });
    await arrived(it, it.remote.writeAsync(range.start, Uint8Array.of(3)));
    it.gpu.space.attributes.set(range, { preferred: it.remote.device, accessedBy: it.gpu.device });
    it.moves.length = 0;
    expect([...(await arrived(it, it.gpu.readAsync(range.start, 1)))]).toEqual([3]);
    expect(it.moves).toEqual(['1 remote.dram -> gpu.ram (peer)']);
    await end(it);
  });

  test('keeps its page when the wire is cut on the way', async () => {
    const it = world();
    const range = it.gpu.space.mmap({ bytes: 3 * PAGE });
    it.remote.write(range.start, Uint8Array.of(4));
    const pulled = it.gpu.migrateAsync(range, { to: 'device' });
    expect(it.network.inFlight).toBe(1);
    it.network.cut();
    // What was nowhere has come; the page is where it was.
    expect(await arrived(it, pulled)).toBe(2);
    expect([...it.remote.read(range.start, 1)]).toEqual([4]);
    expect([...(await arrived(it, it.gpu.readAsync(range.start, 1)))]).toEqual([4]);
    await end(it);
  });

  test('leaves the machine: its pages come home first', async () => {
    const it = world();
    const { start } = it.gpu.space.mmap({ bytes: PAGE });
    it.remote.write(start, Uint8Array.of(6));
    await arrived(it, it.machine.removeDeviceAsync(it.remote.device));
    expect(it.machine.links).toEqual([]);
    expect([...it.gpu.read(start, 1)]).toEqual([6]);
    await end(it);
  });
});
