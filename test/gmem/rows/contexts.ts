import type { Row } from './row.ts';

export const rows: readonly Row[] = [
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
];
