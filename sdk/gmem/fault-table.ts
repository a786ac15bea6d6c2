/**
 * What a fault does, as tables: the state of the page and the question, and the action. `ServeFault` acts on the second table; what a CPU fault does is written in `CpuFault`, and the first table says what it comes
 * to: a test holds the one to the other.
 *
 * Both sides may wait, look again, and find another state: an action is a step on the way, not the end. A page whose bytes cannot be had fails without any of its state having changed.
 *
 * Models: tables (a) and (b) of GMEM's page faults (`handle_peer_shared_fault`, `gm_dev_fault`), completed: read and write differ, another device's page is a case, nothing is lost by a failure.
 */

/** Where the one truth about a page, its home entry, says that it is. */
export type PageState =
  /** No bytes anywhere: a hole of anonymous memory, the page of zeros. GMEM: NOMAP. */
  | 'nothing'
  /** A hole behind which there is a file, a shared object, a driver: its owner has the bytes. */
  | 'elsewhere'
  /** On the host, this space's, free to move. GMEM: CPU. */
  | 'host'
  /** On the host, or in coherent memory of another device: to be used where it is (files, shared memory, hugetlb). */
  | 'fixed'
  /** In a memory of the device that asks. GMEM: DEV(dev). */
  | 'own'
  /** In private memory of another device. GMEM: DEV(other). */
  | 'other'
  /** On its way: somebody migrates it. GMEM: MIGRATING. */
  | 'moving'
  /** A device's for its atomics; or without rights for the CPU. */
  | 'withheld'
  /** Swapped out, special, lost. */
  | 'lost';

/** What the access wants, and the home entry allows: `denied`: to write, which the entry does not allow though the mapping does. */
export type PageQuestion = 'read' | 'write' | 'denied';

/** What is done about a device fault. */
export type DeviceAction =
  /** The page lock is waited for; then the state is looked at again. */
  | 'wait'
  /** A CPU fault on behalf of the device makes the page present, at home, writable as asked; then it is looked at again. */
  | 'fault'
  /** It is there already: its translation is entered. */
  | 'enter'
  /** The device's policy chooses: migrate, duplicate, use where it is, let it stay. */
  | 'place'
  /** The CPU's page is mapped where it is, faulted in if need be. */
  | 'map'
  /** A bus error. */
  | 'fail';

/** Actions for read, write, denied. */
export type DeviceRow = Readonly<Record<PageQuestion, DeviceAction>>;

function all(action: DeviceAction): DeviceRow {
  return { read: action, write: action, denied: action };
}

/** Table (b), of a device that has memory of its own. Read-only though the mapping allows writing: the right comes back before the page moves, since a migration keeps what it finds. */
export const WITH_MEMORY: Readonly<Record<PageState, DeviceRow>> = {
  nothing: all('place'),
  elsewhere: all('map'),
  host: { read: 'place', write: 'place', denied: 'fault' },
  fixed: { read: 'map', write: 'map', denied: 'fault' },
  own: { read: 'enter', write: 'enter', denied: 'fault' },
  other: { read: 'place', write: 'place', denied: 'fault' },
  moving: all('wait'),
  withheld: all('fault'),
  lost: all('fail'),
};

/** Table (b), of a device that has none: what is present is mapped, by a range fault that sees to rights itself. */
export const WITHOUT_MEMORY: Readonly<Record<PageState, DeviceRow>> = {
  ...WITH_MEMORY,
  nothing: all('map'),
  host: all('map'),
  fixed: all('map'),
};

/** What a CPU access finds. */
export type CpuState =
  | 'nothing'
  /** The page of zeros. */
  | 'zeros'
  /** Present, with the right that is asked for: somebody else was quicker. */
  | 'present'
  /** Present and this space's own, without the right to write. */
  | 'read-only'
  /** The same, and devices may have copies of it, or do atomics on it. */
  | 'replicated'
  /** Present, and others have it too. */
  | 'shared'
  | 'device'
  | 'exclusive'
  | 'moving'
  | 'no rights'
  | 'lost';

/** What becomes of it. */
export type CpuAction =
  | 'zero page'
  | 'zeroed frame'
  | 'nothing'
  /** The right to write comes back in place. */
  | 'reuse'
  /** Every device's translation goes, copies with it, and is flushed; then as `reuse`. */
  | 'upgrade'
  /** Every device's translation goes and is flushed; then a frame of its own. */
  | 'copy'
  /** `migrate_to_ram`, then it is looked at again. */
  | 'home'
  /** The device that has it for itself gives it up, then it is looked at again. */
  | 'revoke'
  | 'wait'
  | 'rights'
  | 'fail';

/** Table (a): private anonymous memory that the mapping allows the access to. */
export const CPU_TABLE: Readonly<Record<CpuState, Readonly<Record<'read' | 'write', CpuAction>>>> = {
  nothing: { read: 'zero page', write: 'zeroed frame' },
  zeros: { read: 'nothing', write: 'zeroed frame' },
  present: { read: 'nothing', write: 'nothing' },
  'read-only': { read: 'nothing', write: 'reuse' },
  replicated: { read: 'nothing', write: 'upgrade' },
  shared: { read: 'nothing', write: 'copy' },
  device: { read: 'home', write: 'home' },
  exclusive: { read: 'revoke', write: 'revoke' },
  moving: { read: 'wait', write: 'wait' },
  'no rights': { read: 'rights', write: 'rights' },
  lost: { read: 'fail', write: 'fail' },
};

/** The action of table (b). */
export function deviceAction(state: PageState, question: PageQuestion, hasMemory: boolean): DeviceAction {
  return (hasMemory ? WITH_MEMORY : WITHOUT_MEMORY)[state][question];
}
