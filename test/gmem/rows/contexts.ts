import type { Row } from './row.ts';

export const rows: readonly Row[] = [
  {
    id: 'A1',
    title: 'Create and destroy a device, id pool, enabled switch',
    here: '`machine.addDevice`, `machine.removeDevice`; `device.owner` is the lowest number that is free; `createMachine({ gmem: false })` has none.',
    tests: [
      'test/gmem/spaces.test.ts > devices > have numbers, the lowest that is free, and names that are free when they have gone',
      'test/gmem/spaces.test.ts > devices > cannot be added to a machine that was made without',
    ],
    canary: {
      file: 'sdk/machine.ts',
      find: 'while (this.deviceList.some((device) => device.owner === owner)) owner++;',
      replace: 'owner += this.deviceList.length;',
    },
  },
  {
    id: 'A3',
    title: 'Register and unregister physical ranges, several per device',
    here: '`driver.memory`, `device.addMemory`, `device.removeMemory` (`OwnMemory`, `Unplug`).',
    tests: [
      'test/machine/hot-plug.test.ts > gives everything back, to every space that mapped it, and its place is free for another',
      'test/machine/hot-plug.test.ts > takes pages, by its index, and the first one by default',
    ],
    canary: { file: 'sdk/gmem/device.ts', find: 'this.platform.nodes.drop(memory.node);', replace: '' },
  },
  {
    id: 'A4',
    title: 'Numbers of device nodes above those of the CPU; is it one, is it allowed; enumeration',
    here: '`machine.nodes` (`id`, `device`), `space.allows(node)`: the host, and the memories of attached devices.',
    tests: [
      'test/gmem/spaces.test.ts > nodes > of devices have numbers above the host’s, the lowest that is free; a space may use those of its devices',
    ],
    canary: {
      file: 'sdk/mm/memory-map.ts',
      find: 'return owner === 0 || this.mirrors.some((mirror) => mirror.owner === owner);',
      replace: 'return owner >= 0;',
    },
  },
  {
    id: 'A5',
    title: 'Limits and counters of a device node, with granularity and lower bound',
    here: '`memory.limit(bytes)`: whole granules of the device, not below what is in use, 0 none; `used` and `peak` of `machine.nodes`.',
    tests: ['test/gmem/spaces.test.ts > nodes > have a limit, in whole granules, not below what is in use; what does not fit is evicted'],
    canary: { file: 'sdk/gmem/own-memory.ts', find: 'this.framesMax = frames;', replace: 'this.framesMax = 0;' },
  },
  {
    id: 'A2',
    title: 'Capabilities REPLAYABLE (enforced: a device without it is pre-faulted) and PEER',
    here: '`driver.replayable: false`: `Window` brings and holds the pages of a job, a fault fails it. Having the `peer` family is the capability PEER: families are capabilities (`checkFamilies`).',
    tests: [
      'test/gmem/window.test.ts > a job on a device that cannot replay a fault > fails at an access outside of the window that was asked for, and says where',
      'test/gmem/window.test.ts > single accesses and atomics of such a device bring their pages as well',
    ],
    canary: {
      file: 'sdk/gmem/job.ts',
      find: 'if (!this.context.device.replayable) throw this.notReplayed();',
      replace: 'this.slice += 0;',
    },
  },
  {
    id: 'A7',
    title: 'Hot unplug: migrate everything home, then fail new faults',
    here: '`machine.removeDevice(device)` (`RemoveDevice`): ENODEV for whatever is new, everything home, contexts detached, memories unplugged, the number free.',
    tests: [
      'test/gmem/leave.test.ts > a device that is taken out of the machine > gives everything back, in every address space, and its name and number are free',
      'test/gmem/leave.test.ts > a device that is taken out of the machine > fails new faults from the beginning, while its pages are still on their way',
      'test/gmem/leave.test.ts > a device that is taken out of the machine > stays as it was when a page cannot leave',
    ],
    canary: { file: 'sdk/gmem/remove-device.ts', find: 'devices.splice(devices.indexOf(device), 1);', replace: 'devices.slice();' },
  },
  {
    id: 'A8',
    title: 'Device reset and context loss',
    here: '`device.reset({ memory })` (`Reset`, `Lose`): jobs and unfinished operations fail, translations go, failed contexts serve again; with lost memory each page that only the device had is poison, and is reported.',
    tests: [
      'test/gmem/leave.test.ts > a device that is reset > with its memory lost, turns what only it had into poison, and reports each page',
      'test/gmem/leave.test.ts > a device that is reset > with its memory lost, loses no page of which it had a copy: the page is at home, or where its owner is',
      'test/gmem/leave.test.ts > a device that is reset > with its memory lost, loses no page that is still true in the second tier',
      'test/gmem/leave.test.ts > a device that is reset > breaks its jobs off, and what its driver never finishes: pages stay where they were',
    ],
    canary: {
      file: 'sdk/gmem/lose.ts',
      find: 'core.exports.mapSpecial(space.table, page, 0, L.KIND_POISON)',
      replace: 'core.exports.mapZero(space.table, page)',
    },
  },
  {
    id: 'B3',
    title: 'Detach',
    here: '`context.detach()`: pages come home, translations go, the notifier ends, `pmap.destroy` is last (`Detach`).',
    tests: [
      'test/machine/devices.test.ts > detaching > brings pages home, takes translations away, calls the driver last, and may be done again',
      'test/machine/leaving.test.ts > two detaches at once: the device leaves once, and both are done',
    ],
    canary: {
      file: 'sdk/gmem/detach.ts',
      find: "this.flush = this.context.withdraw(everything, 'migration: detach');",
      replace: 'everything.clear();',
    },
  },
  {
    id: 'B5',
    title: 'SHARE with cookie compatibility check',
    here: '`space.attach(device, { mode: "share" })`: the device walks the home table (`SharedTable`), when `driver.tableFormat` is `space.tableFormat` and it has no private memory; `drivers/integrated`.',
    tests: [
      'test/gmem/share.test.ts > a device of the same format > walks the table of the CPU: what the CPU has, it has without a fault',
      'test/gmem/share.test.ts > a device is refused share mode',
      'test/gmem/share.test.ts > while a change waits for another device, the one that shares the table does not translate',
    ],
    canary: {
      file: 'sdk/gmem/device-mirror.ts',
      find: "if (this.mode === 'share') this.table = new SharedTable(core, home, this);",
      replace: "if (this.name === '') this.table = new SharedTable(core, home, this);",
    },
  },
  {
    id: 'B6',
    title: 'COHERENT_EXCLUSIVE',
    here: 'The mode of an attach when neither caller nor driver says another: a table of the device, filled by its faults; a page is in one place (`ServeFault`, `mayMove`).',
    tests: ['test/machine/devices.test.ts > two devices in one space > hand a page from one to the other by way of the host'],
    canary: {
      file: 'sdk/gmem/movable.ts',
      find: 'if (!platform.host.holds(frame)) return false;',
      replace: 'return false;',
    },
  },
  {
    id: 'B7',
    title: 'REPLICATE with PTE-install propagation',
    here: '`space.attach(device, { mode: "replicate" })`: `Follower` enters what the CPU gets (`space.installed`, `NotifierSet.followers`) into the device\'s table.',
    tests: [
      'test/gmem/replicate.test.ts > what the CPU has touched',
      'test/gmem/replicate.test.ts > a page of zeros that the CPU has written since, nor one that was copied for it',
      'test/gmem/replicate.test.ts > pages that came home from another device',
    ],
    canary: {
      file: 'sdk/mm/fault.ts',
      find: 'this.space.installed(this.vpn, 1);',
      replace: 'this.space.installed(0, 1);',
    },
  },
  {
    id: 'B8',
    title: 'Attach after mmap replays existing ranges; concurrent attach safe',
    here: '`Follower.catchUp`: what the CPU has is entered at the attach; while changes are under way it waits for their end. In the other modes what is mapped is there by a fault, or by the walk.',
    tests: [
      'test/gmem/replicate.test.ts > what was there before it was attached',
      'test/gmem/replicate.test.ts > a device that is attached while a change waits for another one has what is left of it',
    ],
    canary: { file: 'sdk/gmem/device-mirror.ts', find: 'this.follower.catchUp();', replace: 'this.follower.settled();' },
  },
  {
    id: 'B4',
    title: 'Switch and time slicing, with a current context',
    here: '`driver.activeContexts: "one"`, `device.current`, `device.switchTo(context)`: a turn lock, slices of rounds (`policy.slice`), `PreemptedJob`; the driver hears `load` and `unload`.',
    tests: [
      'test/gmem/switch.test.ts > jobs of two address spaces > take turns, a round each, and each comes to its right end',
      'test/gmem/switch.test.ts > the current context > is the first that was attached, then whoever works, or is switched to',
      'test/gmem/switch.test.ts > jobs of two address spaces > have longer slices by the policy of the device',
    ],
    canary: { file: 'sdk/gmem/job.ts', find: '!turn.isWanted) return;', replace: '!turn.isWanted || this.n > 0) return;' },
  },
  {
    id: 'B2',
    title: 'Attach with mode and activate',
    here: '`space.attach(device, { mode, activate })`: `AttachOptions`; a mode that the device cannot have is refused, `activate` loads the context of a device that runs one at a time.',
    tests: [
      'test/gmem/switch.test.ts > the current context > is chosen when a device is attached: activate',
      'test/gmem/share.test.ts > a device is refused share mode',
    ],
    canary: {
      file: 'sdk/gmem/device.ts',
      find: 'if (this.turn && (activate ?? !this.loaded)) this.load(context);',
      replace: 'if (this.turn && !this.loaded) this.load(context);',
    },
  },
  {
    id: 'F8',
    title: 'Non-faulting device: the window of a job is brought and pinned beforehand',
    here: '`driver.replayable: false`, `job.window` (`Window`): pages are brought for writing where their mapping allows it, and pinned until the job ends.',
    tests: [
      'test/gmem/window.test.ts > a job on a device that cannot replay a fault > has its pages before it begins: one round, no fault',
      'test/gmem/window.test.ts > a job on a device that cannot replay a fault > has its pages held while the rest of the window comes: the CPU takes none of them, and they are free afterwards',
    ],
    canary: {
      file: 'sdk/gmem/job.ts',
      find: 'if (this.window) return run.call(this.window);',
      replace: 'if (this.n < 0) return run.call(this.window!);',
    },
  },
  {
    id: 'B1',
    title: 'Create and destroy an address space, with a range',
    here: '`machine.createAddressSpace({ cpu, range })`, `space.close()`: a space is no process; without a CPU it is what devices have in common.',
    tests: [
      'test/gmem/spaces.test.ts > an address space with a range maps nothing outside of it, and lets all go when it ends',
      'test/gmem/spaces.test.ts > an address space without a CPU > is what devices have in common: what one writes, the other reads',
    ],
    canary: { file: 'sdk/mm/mmap.ts', find: 'alignPages, limit: space.last', replace: 'alignPages' },
  },
  {
    id: 'B9',
    title: 'Several devices, several spaces per process',
    here: 'A context for each pair of device and address space; spaces belong to whoever makes them.',
    tests: [
      'test/gmem/spaces.test.ts > several devices in several address spaces of one program keep all of them apart',
      'test/machine/devices.test.ts > one device in two spaces > shares its memory between them; each sees its own bytes, and eviction crosses over',
    ],
    canary: {
      file: 'sdk/gmem/device.ts',
      find: 'if (contexts[i]!.space === space) return contexts[i];',
      replace: 'if (space) return this.contexts[0];',
    },
  },
  {
    id: 'B10',
    title: 'Teardown calls pmap_destroy and peer_va_free',
    here: '`Context.end`: `detach`, then `pmap.destroy`, last of all, once, also when the address space ends. Addresses that a peer has given: see C2.',
    tests: [
      'test/gmem/share.test.ts > the table of a driver > is created when the device is attached, and destroyed last when it leaves',
      'test/gmem/share.test.ts > the table of a driver > is destroyed when the address space ends, for every device once',
    ],
    canary: { file: 'sdk/gmem/device-mirror.ts', find: 'this.mmu.pmap.destroy?.();', replace: 'this.mmu.pmap.enter;' },
  },
  {
    id: 'C8',
    title: 'Device-private ranges, not mirrored',
    here: '`context.reserve`, `context.free` (`Reserve`, `FreeRange`, `VMA_DEVICE`): in the memory of the device, pinned; EFAULT for everybody else.',
    tests: [
      'test/gmem/spaces.test.ts > a private range of a device > is in its memory from the beginning, and nobody else’s: not the CPU’s, not another device’s',
      'test/gmem/spaces.test.ts > a private range of a device > is not given away by mmap, not changed by the program, and not inherited',
      'test/gmem/spaces.test.ts > a private range of a device > stays in a memory that is full: its pages are no victims',
    ],
    canary: { file: 'sdk/mm/fault.ts', find: "if (vma.flags & VMA_DEVICE) return this.end(run, 'permission');", replace: '' },
  },
];
