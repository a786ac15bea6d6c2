import type { Row } from './row.ts';

export const rows: readonly Row[] = [
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
      find: 'this.flush = this.context.withdraw(everything);',
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
      file: 'sdk/gmem/context.ts',
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
    canary: { file: 'sdk/gmem/context.ts', find: 'this.follower.catchUp();', replace: 'this.follower.settled();' },
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
];
