/** Every public function that takes arguments, and what each argument is. `structure.node.test.ts` sees to it that none is missing. */
import { createMachine, createMachineSync, foldEvent, MiB, newCounters, printEvent, printHistory, restoreMachine } from 'farfault';
import dmirror from 'farfault/drivers/dmirror';
import integrated from 'farfault/drivers/integrated';
import kvm from 'farfault/drivers/kvm';
import iommu from 'farfault/drivers/iommu';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import npu from 'farfault/drivers/npu';
import rdma from 'farfault/drivers/rdma';
import {
  gmemFreeEager,
  gmemGetNumaId,
  gmemPrefetch,
  defineDriver,
  deviceTable,
  deviceTlb,
  FaultBatch,
  hmmOrder,
  Iommu,
  MappingSet,
  method,
  permits,
  Ranges,
  VaSpace,
  victimPolicy,
} from 'farfault/gmem';
import { Invalidation } from 'farfault/mm';
import {
  formatReport,
  formatReports,
  mergeRanges,
  parseRange,
  parseSidecar,
  presets,
  printRange,
  measureTrace,
  replayTrace,
  timeline,
} from 'farfault/replay';
import {
  type ArgumentSort,
  type BadInputOptions,
  badInputs,
  checked,
  Checks,
  decoupled,
  driverContract,
  DriverTrace,
  exploreAll,
  exploreSeeded,
  faultsOf,
  faulty,
  FaultPlan,
  gradeDriver,
  parseProgram,
  printFailure,
  printFinding,
  printOperation,
  printProgram,
  printReport,
  randomProgram,
  replaySchedule,
  shrinkProgram,
  traced,
  wrapDriver,
  wrapFactory,
} from 'farfault/testing';
import { PAGE, plainDriver, type World } from './world.ts';

/* What follows is what a program without types can do. */
type Loose = any; // eslint-disable-line @typescript-eslint/no-explicit-any

/** One argument, or a field of one. */
export interface Argument extends BadInputOptions {
  readonly sort: ArgumentSort;
  /** What an error calls it: one of these words is in the name. */
  readonly names: readonly string[];
  /** Which argument. */
  readonly at: number;
  /** The field of it; a field of a field: `a.b`. */
  readonly field?: string;
  /** A field with a name that it does not have is refused. Default: of options. */
  readonly closed?: boolean;
}

/** One function. */
export interface Row {
  /** `Class.method`, or the name of a function. */
  readonly name: string;
  /** Calls it. */
  readonly call: (world: World, values: readonly Loose[]) => unknown;
  /** Arguments that it takes, made anew. */
  readonly good: (world: World) => Loose[];
  readonly arguments: readonly Argument[];
  /** It is a promise that is rejected. */
  readonly rejects: boolean;
  /** What a closed machine's answers: EBADF, unless it is no verb of a machine. */
  readonly closed: 'EBADF' | 'nothing';
}

/** What an argument is besides. */
interface Besides extends BadInputOptions {
  readonly also?: readonly string[];
  readonly closed?: boolean;
}

/** One argument by its place: `arg(0, 'addr', 'address')`. */
function arg(at: number, name: string, sort: ArgumentSort, options: Besides = {}): Argument {
  const { also = [], ...rest } = options;
  return { at, names: [name, ...also], sort, ...rest };
}

/** One field: `field(0, 'prot', 'word')`. Optional unless said otherwise. */
function field(at: number, path: string, sort: ArgumentSort, options: Besides = {}): Argument {
  const { also = [], ...rest } = options;
  return { at, field: path, names: [path.split('.').pop()!, ...also], sort, optional: true, ...rest };
}

interface More {
  readonly rejects?: boolean;
  readonly closed?: 'EBADF' | 'nothing';
}

function row(
  name: string,
  call: Row['call'],
  good: Row['good'],
  args: readonly Argument[],
  { rejects = false, closed = 'EBADF' }: More = {},
): Row {
  return { name, call, good, arguments: args, rejects, closed };
}

/** Methods of one object of the world. `async`: it has a twin that is called so, and rejects. `step`: and one that makes the step. */
function methods(kind: string, of: (world: World) => Loose) {
  return (
    name: string,
    good: Row['good'],
    args: readonly Argument[],
    { twin = false, step, ...more }: More & { twin?: boolean; step?: string } = {},
  ): Row[] => {
    const rows = [row(`${kind}.${name}`, (world, values) => of(world)[name](...values), good, args, more)];
    const other = (as: string, rejects: boolean): Row =>
      row(`${kind}.${as}`, (world, values) => of(world)[as](...values), good, args, { ...more, rejects });
    if (twin) rows.push(other(`${name}Async`, true));
    if (step) rows.push(other(step, false));
    return rows;
  };
}

const space = methods('AddressSpace', ({ space }) => space);
const memoryMap = methods('MemoryMap', ({ space }) => space);
const context = methods('Context', ({ context }) => context);
const deviceMirror = methods('DeviceMirror', ({ context }) => context);
const machine = methods('Machine', ({ machine }) => machine);
const device = methods('Device', ({ device }) => device);
const file = methods('MemoryFile', ({ file }) => file);
const pin = methods('Pin', ({ pin }) => pin);
const hmm = methods('Hmm', ({ hmm }) => hmm);
const dma = methods('DmaMap', ({ dma }) => dma);
const notifiers = methods('NotifierSet', ({ space }) => space.notifiers);

const range = (name = 'range'): Argument => arg(0, name, 'range');

/** Options of an attach. */
const attachOptions = [arg(1, 'attach options', 'options', { optional: true }), field(1, 'mode', 'word'), field(1, 'activate', 'boolean')];

const spaces: Row[] = [
  ...space(
    'mmap',
    () => [{ bytes: PAGE }],
    [
      arg(0, 'mmap options', 'options'),
      field(0, 'bytes', 'count', { optional: false }),
      field(0, 'prot', 'word'),
      field(0, 'at', 'aligned address'),
      field(0, 'fixed', 'boolean'),
      field(0, 'shared', 'boolean'),
      field(0, 'align', 'count'),
      field(0, 'file', 'object'),
      field(0, 'offset', 'index', { also: ['offset'] }),
      field(0, 'hugetlb', 'count'),
      field(0, 'special', 'word'),
      field(0, 'peerShared', 'boolean'),
    ],
    { twin: true, step: 'mmapStep' },
  ),
  ...space('insertPage', ({ special }) => [special.start, Uint8Array.of(1)], [
    arg(0, 'addr', 'aligned address'),
    arg(1, 'bytes', 'bytes', { optional: true }),
  ]),
  ...space('insertPfn', ({ special }) => [special.start, 5], [arg(0, 'addr', 'aligned address'), arg(1, 'pfn', 'index')]),
  ...memoryMap('limit', () => [PAGE], [arg(0, 'bytes', 'index', { optional: true, also: ['limit'] })]),
  ...space('munmap', (w) => [w.range], [range()], { twin: true }),
  row(
    'AddressSpace.unmapStep',
    ({ space }, [r]) => space.unmapStep(r),
    (w) => [w.range],
    [range()],
  ),
  ...space('mprotect', (w) => [w.range, 'r'], [range(), arg(1, 'prot', 'word')], { twin: true }),
  row(
    'AddressSpace.protectStep',
    ({ space }, [r, p]) => space.protectStep(r, p),
    (w) => [w.range, 'r'],
    [range(), arg(1, 'prot', 'word')],
  ),
  ...space('madvise', (w) => [w.range, 'dontneed'], [range(), arg(1, 'advice', 'word')], { twin: true }),
  row(
    'AddressSpace.adviseStep',
    ({ space }, [r, a]) => space.adviseStep(r, a),
    (w) => [w.range, 'dontneed'],
    [range(), arg(1, 'advice', 'word')],
  ),
  ...space(
    'mremap',
    (w) => [w.range, { bytes: PAGE }],
    [
      range(),
      arg(1, 'mremap options', 'options'),
      field(1, 'bytes', 'count'),
      field(1, 'mayMove', 'boolean'),
      field(1, 'dontUnmap', 'boolean'),
      field(1, 'to', 'aligned address'),
    ],
    { twin: true, step: 'mremapStep' },
  ),
  ...space('msync', (w) => [w.mapped], [range()], { twin: true, step: 'msyncStep' }),
  ...space('fork', () => [{}], [arg(0, 'fork options', 'options', { optional: true }), field(0, 'device', 'word')], {
    twin: true,
    step: 'forkStep',
  }),
  ...space(
    'pin',
    (w) => [w.range, {}],
    [range(), arg(1, 'pin options', 'options', { optional: true }), field(1, 'write', 'boolean'), field(1, 'longTerm', 'boolean')],
    { twin: true, step: 'pinStep' },
  ),
  ...space('read', (w) => [w.range.start, 8], [arg(0, 'addr', 'address'), arg(1, 'bytes', 'index')], { twin: true, step: 'readStep' }),
  ...space('write', (w) => [w.range.start, Uint8Array.of(1)], [arg(0, 'addr', 'address'), arg(1, 'bytes', 'bytes')], {
    twin: true,
    step: 'writeStep',
  }),
  ...space('tryRead', (w) => [w.range.start, new Uint8Array(1)], [arg(0, 'addr', 'address'), arg(1, 'bytes', 'bytes')]),
  ...space('tryWrite', (w) => [w.range.start, Uint8Array.of(1)], [arg(0, 'addr', 'address'), arg(1, 'bytes', 'bytes')]),
  ...memoryMap('allows', () => [1], [arg(0, 'node', 'index', { except: ['Infinity'] })]),
  ...space('attach', (w) => [w.device, {}], [arg(0, 'device', 'object'), ...attachOptions], { twin: true }),
  ...space('dump', (w) => [w.range], [arg(0, 'range', 'range', { optional: true })]),
  ...space('snapshot', (w) => [w.range], [range()]),
  ...space('snapshotHmm', (w) => [w.range, 0], [range(), arg(1, 'owner', 'index', { optional: true })]),
  ...space('snapshotExtents', (w) => [w.range], [range()]),
  ...space('subscribe', (w) => [w.range, { invalidate: () => true }], [
    range(),
    arg(1, 'ops', 'object'),
    field(1, 'invalidate', 'function', { optional: false }),
  ]),
  ...space('holders', (w) => [w.range.start], [arg(0, 'addr', 'address')]),
  ...space('history', (w) => [w.range.start], [arg(0, 'addr', 'address')]),
  ...space('unsubscribe', (w) => [w.notifier], [arg(0, 'notifier', 'object')]),
];

const hints: Row[] = [
  ...space(
    'hmadvise',
    (w) => [w.range, 'willneed', { device: w.device }],
    [
      field(0, 'start', 'address', { optional: false }),
      field(0, 'end', 'count', { optional: false }),
      arg(1, 'advice', 'word'),
      arg(2, 'hmadvise options', 'options', { optional: true }),
      field(2, 'device', 'object'),
    ],
    { twin: true, step: 'hintStep' },
  ),
  ...space(
    'mbind',
    (w) => [w.range, { mode: 'preferred', node: 'dram' }],
    [
      range(),
      arg(1, 'mbind options', 'options'),
      field(1, 'mode', 'word', { optional: false }),
      field(1, 'node', 'text'),
      field(1, 'move', 'boolean'),
    ],
    { twin: true },
  ),
];

const stream = methods('Stream', (w) => w.stream);

const streams: Row[] = [
  ...space(
    'hmemcpy',
    (w) => [w.range.start, w.range.start + PAGE, 8, {}],
    [
      arg(0, 'dest', 'address'),
      arg(1, 'src', 'address'),
      arg(2, 'bytes', 'count'),
      arg(3, 'hmemcpy options', 'options', { optional: true }),
      field(3, 'to', 'object'),
    ],
    { twin: true, step: 'memcpyStep' },
  ),
  ...stream(
    'prefetchAsync',
    (w) => [w.range, 'device'],
    [
      field(0, 'start', 'address', { optional: false }),
      field(0, 'end', 'count', { optional: false }),
      arg(1, 'to', 'word', { optional: true }),
    ],
    { rejects: true },
  ),
  ...stream(
    'memcpyAsync',
    (w) => [w.range.start, w.range.start + PAGE, 8, {}],
    [
      arg(0, 'dest', 'address'),
      arg(1, 'src', 'address'),
      arg(2, 'bytes', 'count'),
      arg(3, 'hmemcpy options', 'options', { optional: true }),
      field(3, 'to', 'object'),
    ],
    { rejects: true },
  ),
  ...stream(
    'dontneedAsync',
    (w) => [w.range],
    [field(0, 'start', 'address', { optional: false }), field(0, 'end', 'count', { optional: false })],
    { rejects: true },
  ),
  ...stream('submitAsync', () => [{ accesses: [] }], [arg(0, 'job', 'options'), field(0, 'accesses', 'array', { optional: false })], {
    rejects: true,
  }),
  ...stream('wait', (w) => [w.event], [arg(0, 'event', 'object')]),
  row(
    'gmemGetNumaId',
    (_, [device]) => gmemGetNumaId(device),
    (w) => [w.device],
    [arg(0, 'device', 'object')],
    { closed: 'nothing' },
  ),
  row(
    'gmemPrefetch',
    (_, [s, a, b, n]) => gmemPrefetch(s, a, b, n),
    (w) => [w.space, w.range.start, PAGE, w.machine.platform.host.index],
    [arg(0, 'space', 'object'), arg(1, 'addr', 'address'), arg(2, 'bytes', 'count'), arg(3, 'hnid', 'index')],
  ),
  row(
    'gmemFreeEager',
    (_, [s, a, b]) => gmemFreeEager(s, a, b),
    (w) => [w.space, w.range.start, PAGE],
    [arg(0, 'space', 'object'), arg(1, 'addr', 'address'), arg(2, 'bytes', 'count')],
  ),
  ...machine('oomReap', (w) => [w.other], [arg(0, 'space', 'object')], { twin: true, step: 'oomReapStep' }),
];

const attributes = methods('Attributes', ({ space }) => space.attributes);

const advice: Row[] = [
  ...attributes('set', (w) => [w.range, { readMostly: true }], [
    range(),
    arg(1, 'change', 'options'),
    field(1, 'preferred', 'object'),
    field(1, 'accessedBy', 'object'),
    field(1, 'notAccessedBy', 'object'),
    field(1, 'readMostly', 'boolean'),
    field(1, 'atomics', 'array'),
  ]),
  ...attributes('clear', (w) => [w.range], [range()]),
  ...attributes('list', (w) => [w.range], [arg(0, 'range', 'range', { optional: true })]),
];

const at = (w: World): number => w.range.start;

const contexts: Row[] = [
  ...context('read', (w) => [at(w), 8], [arg(0, 'addr', 'address'), arg(1, 'bytes', 'index')], { twin: true, step: 'readStep' }),
  ...context('write', (w) => [at(w), Uint8Array.of(1)], [arg(0, 'addr', 'address'), arg(1, 'bytes', 'bytes')], {
    twin: true,
    step: 'writeStep',
  }),
  ...context(
    'submit',
    (w) => [{ accesses: [{ op: 'write', addr: at(w), bytes: 4, value: 1 }], lanes: 2 }],
    [
      arg(0, 'job', 'options'),
      field(0, 'accesses', 'array', { optional: false }),
      field(0, 'lanes', 'count'),
      field(0, 'window', 'array'),
      field(0, 'accesses.0', 'object', { optional: false, also: ['access'] }),
      field(0, 'accesses.0.op', 'word', { optional: false }),
      field(0, 'accesses.0.addr', 'address', { optional: false }),
      field(0, 'accesses.0.bytes', 'count', { optional: false }),
      field(0, 'accesses.0.value', 'index'),
    ],
    { twin: true },
  ),
  row(
    'Context.jobStep',
    ({ context }, [job]) => context.jobStep(job),
    (w) => [{ accesses: [{ op: 'read', addr: at(w), bytes: 4 }] }],
    [arg(0, 'job', 'options'), field(0, 'lanes', 'count')],
  ),
  ...context(
    'migrate',
    (w) => [w.range, { to: 'device' }],
    [range(), arg(1, 'migrate options', 'options'), field(1, 'to', 'word', { optional: false }), field(1, 'memory', 'index')],
    { twin: true },
  ),
  row(
    'Context.migrateStep',
    ({ context }, [r, to, memory]) => context.migrateStep(r, to, memory),
    (w) => [w.range, 'device', 0],
    [range(), arg(1, 'to', 'word'), arg(2, 'memory', 'index', { optional: true })],
  ),
  ...context(
    'reserve',
    () => [{ bytes: PAGE }],
    [arg(0, 'reserve options', 'options'), field(0, 'bytes', 'count', { optional: false }), field(0, 'at', 'aligned address')],
    {
      twin: true,
      step: 'reserveStep',
    },
  ),
  ...context('free', (w) => [w.range], [range()], { twin: true, step: 'freeStep' }),
  ...context('fault', (w) => [at(w), 'read'], [arg(0, 'addr', 'address'), arg(1, 'access', 'word')], { twin: true, step: 'faultStep' }),
  ...context(
    'atomic',
    (w) => [at(w), { op: 'add', bytes: 4, operand: 1 }],
    [
      arg(0, 'addr', 'address'),
      arg(1, 'atomic request', 'options'),
      field(1, 'op', 'word', { optional: false }),
      field(1, 'bytes', 'count', { optional: false }),
      field(1, 'operand', 'index', { optional: false, except: ['below zero', 'a page below zero', 'a big integer', 'a very big integer'] }),
      field(1, 'expected', 'index'),
    ],
    { twin: true, step: 'atomicStep' },
  ),
  ...context('residency', (w) => [at(w) / PAGE], [arg(0, 'vpn', 'index', { limit: 2 ** 36 })]),
  ...context('limit', () => [PAGE, 0], [
    arg(0, 'bytes', 'index', { optional: true, also: ['limit'] }),
    arg(1, 'memory', 'index', { optional: true, also: ['limit'] }),
  ]),
  ...context('harvest', (w) => [w.range], [range()], { twin: true, step: 'harvestStep' }),
  ...context('setAttributes', (w) => [w.range, 1], [range(), arg(1, 'bits', 'index', { limit: 256 })], {
    twin: true,
    step: 'setAttributesStep',
  }),
  ...context('giveUp', (w) => [[at(w) / PAGE]], [arg(0, 'vpns', 'array')], { twin: true, step: 'giveUpStep' }),
  ...deviceMirror('makeTable', () => [{ bits: [9, 9, 9, 9] }], [
    arg(0, 'geometry', 'object', { optional: true, also: ['deviceTable'] }),
    field(0, 'bits', 'array', { optional: false, also: ['deviceTable'] }),
  ]),
  ...deviceMirror('makeTlb', () => [64], [arg(0, 'sets', 'count', { optional: true, also: ['deviceTlb'] })]),
  ...context('ticket', () => ['copy'], [arg(0, 'what', 'text')]),
];

const memoryFields = (at: number, path: string, optional: boolean): Argument[] => [
  field(at, `${path}name`, 'word', { optional, except: ['the name of what every object has'] }),
  field(at, `${path}kind`, 'word', { optional }),
  field(at, `${path}bytes`, 'count', { optional }),
  field(at, `${path}bytesIn`, 'word'),
  field(at, `${path}allocator`, 'word'),
];

const machines: Row[] = [
  ...machine('link', (w) => [...w.peers, { coherent: true }], [
    arg(0, 'link.a', 'object'),
    arg(1, 'link.b', 'object'),
    arg(2, 'link', 'options', { optional: true }),
    field(2, 'coherent', 'boolean'),
  ]),
  ...machine('unlink', (w) => [w.link], [arg(0, 'link', 'object')], { twin: true, step: 'unlinkStep' }),
  ...machine('addDevice', () => [{ ...plainDriver('second') }, { placement: {} }], [
    arg(0, 'driver', 'object', { closed: true }),
    field(0, 'name', 'word', { optional: false, except: ['the name of what every object has'] }),
    field(0, 'attach', 'function', { optional: false }),
    field(0, 'granuleBytes', 'count'),
    field(0, 'faultEntries', 'count'),
    field(0, 'addressBits', 'count'),
    field(0, 'pageBytes', 'array'),
    field(0, 'pageBytes.0', 'count', { optional: false, also: ['pageBytes'] }),
    field(0, 'memory', 'array'),
    field(0, 'memory.0', 'object', { optional: false, also: ['memory'], closed: true }),
    ...memoryFields(0, 'memory.0.', false),
    field(0, 'atomics', 'array'),
    field(0, 'atomics.0', 'word', { optional: false, also: ['atomics'] }),
    field(0, 'geometry', 'object', { also: ['geometry'], closed: true }),
    field(0, 'geometry.bits', 'array', { optional: false }),
    field(0, 'geometry.bits.0', 'count', { optional: false, also: ['bits'] }),
    field(0, 'dma', 'options'),
    field(0, 'dma.iovaBits', 'count', { except: ['zero', 'negative zero'] }),
    field(0, 'dma.needsSync', 'boolean'),
    field(0, 'dma.peer', 'function'),
    field(0, 'classes', 'array'),
    field(0, 'classes.0', 'function', { optional: false, also: ['classes'] }),
    field(0, 'save', 'function'),
    field(0, 'restore', 'function'),
    arg(1, 'addDevice options', 'options', { optional: true }),
    field(1, 'placement', 'options'),
    field(1, 'thrashing', 'options'),
    field(1, 'watermarks', 'object', { closed: true }),
    field(1, 'placement.duplicate', 'word'),
    field(1, 'placement.choose', 'function'),
  ]),
  ...machine('createFile', () => [{ bytes: PAGE }], [
    arg(0, 'createFile options', 'options', { optional: true }),
    field(0, 'bytes', 'index'),
    field(0, 'content', 'bytes'),
  ]),
  ...machine('createAddressSpace', () => [{}], [
    arg(0, 'createAddressSpace options', 'options', { optional: true }),
    field(0, 'cpu', 'boolean'),
    field(0, 'range', 'range'),
  ]),
  ...machine('removeDevice', (w) => [w.device], [arg(0, 'device', 'object')], { twin: true, step: 'removeDeviceStep' }),
  ...machine('record', () => [{ records: 4 }], [arg(0, 'record options', 'options', { optional: true }), field(0, 'records', 'index')]),
  ...machine('onEvent', () => [() => {}], [arg(0, 'listener', 'function')]),
  ...machine('save', () => [{}, {}], [
    arg(0, 'handles', 'options', { optional: true, closed: false }),
    arg(1, 'save options', 'options', { optional: true }),
    field(1, 'classes', 'array'),
    field(1, 'classes.0', 'function', { optional: false, also: ['classes'] }),
  ]),
];

const devices: Row[] = [
  row(
    'OwnMemory.limit',
    ({ memory }, [bytes]) => memory.limit(bytes),
    () => [PAGE],
    [arg(0, 'bytes', 'index', { except: ['Infinity'] })],
  ),
  ...device('addMemory', () => [{ name: 'later', kind: 'private', bytes: PAGE }], [
    arg(0, 'memory', 'object', { also: ['description'], closed: true }),
    ...memoryFields(0, '', false).map((each) =>
      each.sort === 'word' && /bytesIn|allocator/.test(each.field!) ? { ...each, optional: true } : each,
    ),
  ]),
  ...device('removeMemory', (w) => [w.memory], [arg(0, 'memory', 'object')], { twin: true, step: 'removeMemoryStep' }),
  ...device('reset', () => [{}], [arg(0, 'reset options', 'options', { optional: true }), field(0, 'memory', 'word')], {
    twin: true,
    step: 'resetStep',
  }),
  ...device('switchTo', (w) => [w.context], [arg(0, 'context', 'object')], { twin: true, step: 'switchToStep' }),
  ...device('attachTo', (w) => [w.other, {}], [arg(0, 'space', 'object', { also: ['attach'] }), ...attachOptions], { twin: true }),
];

const files: Row[] = [
  ...file('read', () => [0, 4], [arg(0, 'offset', 'index'), arg(1, 'bytes', 'index')]),
  ...file('write', () => [0, Uint8Array.of(1)], [arg(0, 'offset', 'index'), arg(1, 'bytes', 'bytes')]),
  ...file('stored', () => [0, 4], [arg(0, 'offset', 'index'), arg(1, 'bytes', 'index')], { closed: 'nothing' }),
  ...file('truncate', () => [5], [arg(0, 'bytes', 'index')], { twin: true, step: 'truncateStep' }),
  ...file('syncStep', () => [0, 1], [
    arg(0, 'first', 'index', { optional: true }),
    arg(1, 'end', 'index', { optional: true, except: ['Infinity'] }),
  ]),
];

const pins: Row[] = [
  ...pin('read', () => [0, 4], [arg(0, 'offset', 'index', { also: ['pin.read'] }), arg(1, 'bytes', 'index')]),
  ...pin('write', () => [0, Uint8Array.of(1)], [arg(0, 'offset', 'index', { also: ['pin.write'] }), arg(1, 'bytes', 'bytes')]),
];

const vpn = (w: World): number => w.range.start / PAGE;
const selected = { allocate: (): void => {} };

const hmms: Row[] = [
  ...hmm('rangeFault', (w) => [{ vpn: vpn(w), pages: 2 }, () => {}], [
    // Drivers keep them, with state of their own, and give them again and again.
    arg(0, 'request', 'options', { closed: false }),
    field(0, 'vpn', 'index', { optional: false, limit: 2 ** 36 }),
    field(0, 'pages', 'count', { optional: false }),
    field(0, 'request', 'index', { except: ['a function', 'a class'] }),
    field(0, 'notifier', 'object'),
    field(0, 'owner', 'index'),
    arg(1, 'install', 'function'),
    arg(2, 'spare', 'object', { optional: true }),
  ]),
  ...hmm('snapshot', (w) => [vpn(w), 2], [arg(0, 'vpn', 'index', { limit: 2 ** 36 }), arg(1, 'pages', 'count')]),
  ...hmm('dmaMap', () => [4], [arg(0, 'entries', 'count')]),
  ...hmm('describe', (w) => [w.frame], [arg(0, 'frame', 'index')]),
  ...hmm('migrate', (w) => [vpn(w), 2, { ...selected }], [
    arg(0, 'vpn', 'index', { limit: 2 ** 36 }),
    arg(1, 'pages', 'count'),
    arg(2, 'plan', 'options', { closed: false }),
    field(2, 'select', 'index'),
    field(2, 'owner', 'index'),
    field(2, 'cause', 'word'),
    field(2, 'allocate', 'function', { optional: false }),
    field(2, 'install', 'function'),
    arg(3, 'spare', 'object', { optional: true }),
  ]),
  ...hmm('migrateFrames', (w) => [[w.frame], { ...selected }], [
    arg(0, 'frames', 'array'),
    field(0, '0', 'index', { optional: false, also: ['frame'] }),
    arg(1, 'plan', 'options', { closed: false }),
    field(1, 'owner', 'index'),
    field(1, 'cause', 'word'),
    field(1, 'allocate', 'function', { optional: false }),
    arg(2, 'spare', 'object', { optional: true }),
  ]),
  ...hmm('makeExclusive', (w) => [vpn(w), {}, () => {}], [
    arg(0, 'vpn', 'index', { limit: 2 ** 36 }),
    arg(1, 'makeExclusive options', 'options'),
    field(1, 'owner', 'index'),
    field(1, 'cpuReads', 'boolean'),
    arg(2, 'install', 'function'),
    arg(3, 'spare', 'object', { optional: true }),
  ]),
  ...hmm('subscribe', (w) => [vpn(w), 2, { invalidate: () => true }], [
    arg(0, 'vpn', 'index', { limit: 2 ** 36, also: ['range'] }),
    arg(1, 'pages', 'count', { also: ['range'] }),
    arg(2, 'ops', 'object'),
    field(2, 'invalidate', 'function', { optional: false }),
  ]),
  ...hmm('unsubscribe', (w) => [w.notifier], [arg(0, 'notifier', 'object')]),
  ...hmm('takeFrame', (w) => [w.memory, 0], [
    arg(0, 'memory', 'object'),
    arg(1, 'order', 'count', { optional: true, except: ['zero', 'negative zero'] }),
  ]),
  ...hmm('hostFrame', () => [0], [arg(0, 'order', 'count', { optional: true, except: ['zero', 'negative zero'] })]),
  ...hmm('putFrame', (w) => [w.frame], [arg(0, 'frame', 'index')]),
  ...hmm('readFrame', (w) => [w.frame, 0, new Uint8Array(8)], [
    arg(0, 'frame', 'index'),
    arg(1, 'offset', 'index'),
    arg(2, 'into', 'bytes'),
  ]),
  ...hmm('readFrames', (w) => [Uint32Array.of(w.frame), 0, new Uint8Array(8)], [
    arg(0, 'frames', 'object'),
    arg(1, 'offset', 'index'),
    arg(2, 'into', 'bytes'),
  ]),
  ...hmm('writeFrames', (w) => [Uint32Array.of(w.frame), 0, new Uint8Array(8)], [
    arg(0, 'frames', 'object'),
    arg(1, 'offset', 'index'),
    arg(2, 'bytes', 'bytes'),
  ]),
  ...hmm('writeFrame', (w) => [w.frame, 0, new Uint8Array(8)], [
    arg(0, 'frame', 'index'),
    arg(1, 'offset', 'index'),
    arg(2, 'bytes', 'bytes'),
  ]),
  row(
    'MigrationOrder.aim',
    ({ hmm, range, frame }, [i, value]) => hmm.migrate(range.start / PAGE, 2, selected).aim(i, value === 'good' ? frame : value),
    () => [0, 'good'],
    [arg(0, 'word', 'index', { limit: 2 }), arg(1, 'frame', 'index')],
  ),
  row(
    'Migration.verdict',
    ({ hmm, range }, [page]) => hmm.migrate(range.start / PAGE, 2, selected).verdict(page),
    (w) => [vpn(w)],
    [arg(0, 'vpn', 'index')],
  ),
  row(
    'Ticket.fail',
    ({ ticket }, [reason]) => ticket.fail(reason),
    () => ['broken'],
    [arg(0, 'reason', 'text')],
    { closed: 'nothing' },
  ),
  row(
    'IntervalNotifier.setSequence',
    ({ notifier }, [sequence]) => notifier.setSequence(sequence),
    () => [1],
    [arg(0, 'sequence', 'index')],
    { closed: 'nothing' },
  ),
  row(
    'NotifierSet.invalidateStart',
    ({ space }, [event]) => space.notifiers.invalidateStart(event),
    () => [new Invalidation().set(0, 1, 'CLEAR')],
    [arg(0, 'invalidation', 'object')],
    { closed: 'nothing' },
  ),
  row(
    'NotifierSet.invalidateEnd',
    ({ space }, [event]) => space.notifiers.invalidateEnd(event),
    () => [new Invalidation().set(0, 1, 'CLEAR')],
    [arg(0, 'invalidation', 'object')],
    { closed: 'nothing' },
  ),
  row(
    'NotifierSet.release',
    ({ space }, [event]) => space.notifiers.release(event),
    () => [new Invalidation()],
    [arg(0, 'invalidation', 'object')],
    { closed: 'nothing' },
  ),
  row(
    'FaultBatch.cancel',
    (_world, [page, write, reason]) => new FaultBatch([], 0).cancel(page, write, reason),
    () => [0, true, 'permission'],
    [arg(0, 'vpn', 'index', { limit: 2 ** 36 }), arg(1, 'write', 'boolean'), arg(2, 'reason', 'word')],
    { closed: 'nothing' },
  ),
  ...methods('Iommu', () => new Iommu(48))('translate', () => [4096], [arg(0, 'address', 'index')], { closed: 'nothing' }),
  ...dma('map', () => [new Uint32Array(8), 0], [arg(0, 'words', 'object'), arg(1, 'index', 'index')], { closed: 'nothing' }),
  ...dma('unmap', () => [new Uint32Array(8), 0], [arg(0, 'words', 'object'), arg(1, 'index', 'index')], { closed: 'nothing' }),
  ...notifiers(
    'insert',
    (w) => [{ start: vpn(w), end: vpn(w) + 1 }, { invalidate: () => true }],
    [
      arg(0, 'range', 'object'),
      field(0, 'start', 'index', { optional: false }),
      field(0, 'end', 'count', { optional: false }),
      arg(1, 'ops', 'object'),
      field(1, 'invalidate', 'function', { optional: false }),
    ],
    { closed: 'nothing' },
  ),
  ...notifiers('remove', (w) => [w.notifier], [arg(0, 'notifier', 'object')], { closed: 'nothing' }),
];

/** A function that is no method of the world's objects, called as it is. */
function plain(name: string, call: (...values: Loose[]) => unknown, good: () => Loose[], args: readonly Argument[], rejects = false): Row {
  return row(name, (_world, values) => call(...values), good, args, { rejects, closed: 'nothing' });
}

const machineFields: Argument[] = [
  arg(0, 'createMachine options', 'options', { optional: true }),
  field(0, 'dram', 'count'),
  field(0, 'deviceMemory', 'index'),
  field(0, 'bodilessFrames', 'index'),
  field(0, 'physicalBits', 'count'),
  { ...field(0, 'bytesIn', 'word'), optional: true },
  field(0, 'pageBytes', 'count'),
  field(0, 'tablePages', 'count'),
  field(0, 'tables', 'count'),
  field(0, 'checked', 'boolean'),
  field(0, 'gmem', 'boolean'),
  field(0, 'module', 'object'),
];
const tiny = (): Loose => ({ dram: 16 * PAGE, deviceMemory: 0, tablePages: 16, tables: 2 });

const addresses = (): VaSpace => new VaSpace({ start: 0, end: 1 * MiB });
/** A set, and a region of its space; in it, if it is to be. */
const mappings = (inside: boolean): [MappingSet, Loose] => {
  const va = addresses();
  const set = new MappingSet(va);
  const region = va.alloc({ bytes: PAGE })!;
  if (inside) set.add(region);
  return [set, region];
};

const vas: Row[] = [
  plain(
    'VaSpace.constructor',
    (options) => new VaSpace(options),
    () => [{ start: 0, end: 1 * MiB }],
    [
      arg(0, 'VaSpace options', 'options'),
      field(0, 'start', 'index', { optional: false }),
      field(0, 'end', 'count', { optional: false }),
      field(0, 'strategy', 'word'),
      field(0, 'quantum', 'count'),
      field(0, 'cacheQuantum', 'count'),
    ],
  ),
  plain(
    'VaSpace.alloc',
    (request) => addresses().alloc(request),
    () => [{ bytes: PAGE }],
    [
      arg(0, 'va.alloc options', 'options'),
      field(0, 'bytes', 'count', { optional: false }),
      field(0, 'at', 'aligned address'),
      field(0, 'hint', 'index'),
      field(0, 'align', 'count'),
      field(0, 'noCross', 'count'),
      field(0, 'below', 'index'),
    ],
  ),
  plain(
    'VaSpace.free',
    (set, region) => (set as MappingSet).space.free(region),
    () => mappings(false),
    [arg(1, 'region', 'object')],
  ),
  plain(
    'VaSpace.region',
    (start) => addresses().region(start),
    () => [0],
    [arg(0, 'start', 'index')],
  ),
  plain(
    'VaSpace.eachFree',
    (visit) => addresses().eachFree(visit),
    () => [() => {}],
    [arg(0, 'visit', 'function')],
  ),
  plain(
    'MappingSet.constructor',
    (space) => new MappingSet(space),
    () => [addresses()],
    [arg(0, 'space', 'object')],
  ),
  plain(
    'MappingSet.add',
    (set, region, freed) => (set as MappingSet).add(region, freed),
    () => [...mappings(false), () => {}],
    [arg(1, 'region', 'object'), arg(2, 'freed', 'function', { optional: true })],
  ),
  plain(
    'MappingSet.remove',
    (set, region) => (set as MappingSet).remove(region),
    () => mappings(true),
    [arg(1, 'region', 'object')],
  ),
  plain(
    'MappingSet.ranges',
    (set, ranges) => (set as MappingSet).ranges(ranges),
    () => [mappings(true)[0], new Ranges()],
    [arg(1, 'ranges', 'object')],
  ),
  plain(
    'MappingSet.each',
    (set, visit) => (set as MappingSet).each(visit),
    () => [mappings(true)[0], () => {}],
    [arg(1, 'visit', 'function')],
  ),
];

const functions: Row[] = [
  plain('createMachine', createMachine as Loose, () => [tiny()], machineFields, true),
  plain('createMachineSync', createMachineSync as Loose, () => [tiny()], machineFields),
  plain(
    'restoreMachine',
    restoreMachine as Loose,
    () => [new Uint8Array(64), {}],
    [
      arg(0, 'image', 'bytes'),
      arg(1, 'restoreMachine options', 'options', { optional: true }),
      field(1, 'drivers', 'array'),
      field(1, 'classes', 'array'),
    ],
    true,
  ),
  plain('defineDriver', defineDriver as Loose, () => [() => ({}), {}], [
    arg(0, 'make', 'function'),
    arg(1, 'names', 'options', { optional: true, closed: false }),
  ]),
  plain('deviceTable', deviceTable as Loose, () => [{}], [arg(0, 'context', 'object')]),
  plain('deviceTlb', deviceTlb as Loose, () => [{}], [arg(0, 'context', 'object')]),
  plain('hmmOrder', hmmOrder as Loose, () => [0], [arg(0, 'high', 'seed')]),
  plain('permits', permits as Loose, () => [undefined, 'read'], []),
  plain(
    'Iommu.constructor',
    (bits) => new Iommu(bits),
    () => [48],
    [arg(0, 'iovaBits', 'count')],
  ),
  plain('victimPolicy', victimPolicy as Loose, () => ['random', 3], [
    arg(0, 'victims', 'word'),
    arg(1, 'seed', 'index', { optional: true }),
  ]),
  plain('parseRange', parseRange as Loose, () => ['0x1000-0x2000'], [arg(0, 'range', 'word')]),
  plain('printRange', printRange as Loose, () => [{ start: 0, end: 1 }], [
    arg(0, 'range', 'object'),
    field(0, 'start', 'index', { optional: false }),
    field(0, 'end', 'index', { optional: false }),
  ]),
  plain('mergeRanges', mergeRanges as Loose, () => [[{ start: 0, end: 1 }]], [
    arg(0, 'ranges', 'array'),
    field(0, '0', 'object', { optional: false, also: ['range'] }),
    field(0, '0.start', 'index', { optional: false }),
    field(0, '0.end', 'index', { optional: false }),
  ]),
  plain('parseSidecar', parseSidecar as Loose, () => ['{}', 'x'], [
    arg(0, 'sidecar', 'word', {
      also: ['text'],
      except: ['empty text', 'a number in text', 'text of many lines', 'the name of what every object has'],
    }),
    arg(1, 'name', 'text'),
  ]),
  plain('formatReport', formatReport as Loose, () => [{}], [arg(0, 'report', 'object')]),
  plain('formatReports', formatReports as Loose, () => [[]], [
    arg(0, 'reports', 'array'),
    field(0, '0', 'object', { optional: false, also: ['report'] }),
  ]),
  plain(
    'replayTrace',
    replayTrace as Loose,
    () => [
      new Uint8Array(0),
      { name: 'x', driver: plainDriver(), dram: 1 * MiB, lanes: 1, offload: [], preset: Object.values(presets)[0] },
    ],
    [
      arg(0, 'source', 'object', { except: ['an empty array'] }),
      arg(1, 'replayTrace options', 'options'),
      field(1, 'name', 'text', { optional: false }),
      field(1, 'driver', 'object', { optional: false }),
      field(1, 'dram', 'count', { optional: false }),
      field(1, 'lanes', 'count', { optional: false }),
      field(1, 'preset', 'object', { optional: false }),
      field(1, 'offload', 'array', { optional: false }),
      field(1, 'seed', 'seed'),
      field(1, 'swap', 'count'),
      field(1, 'victims', 'word'),
      field(1, 'duplicate', 'boolean'),
      field(1, 'further', 'array'),
      field(1, 'further.0', 'object', { optional: false, also: ['further'], closed: true }),
      field(1, 'workingSet', 'object'),
      field(1, 'onProgress', 'function'),
      field(1, 'now', 'function'),
      field(1, 'signal', 'object'),
    ],
    true,
  ),
  plain(
    'measureTrace',
    measureTrace as Loose,
    () => [new Uint8Array(0), { name: 'x', offload: [] }],
    [
      arg(0, 'source', 'object', { except: ['an empty array'] }),
      arg(1, 'measureTrace options', 'options'),
      field(1, 'name', 'text', { optional: false }),
      field(1, 'offload', 'array', { optional: false }),
      field(1, 'further', 'array'),
      field(1, 'granule', 'count', { except: ['a number in an array'] }),
      field(1, 'onProgress', 'function'),
    ],
    true,
  ),
  row(
    'timeline',
    ({ machine }, [given, options]) => timeline(given === 'machine' ? machine : given, options),
    () => ['machine', { write: () => {} }],
    [
      arg(0, 'machine', 'object'),
      arg(1, 'timeline options', 'options'),
      field(1, 'write', 'function', { optional: false }),
      field(1, 'preset', 'object'),
      field(1, 'name', 'text'),
    ],
  ),
  plain('foldEvent', foldEvent as Loose, () => [newCounters(), { type: 'page.collapsed', tick: 0, space: 1, vpn: 0, pages: 1 }], [
    arg(0, 'counters', 'object'),
    arg(1, 'event', 'object'),
    field(1, 'type', 'word', { optional: false }),
  ]),
  plain('printEvent', printEvent as Loose, () => [{ type: 'page.collapsed', tick: 0 }], [
    arg(0, 'event', 'object'),
    field(0, 'type', 'word', { optional: false }),
  ]),
  plain('printHistory', printHistory as Loose, () => [{}], [arg(0, 'history', 'object')]),
  plain('method', method as Loose, () => [new Map(), 'get'], [
    arg(0, 'object', 'object', { also: ['method'] }),
    arg(1, 'name', 'word', { except: ['the name of what every object has'] }),
  ]),
  plain('printOperation', printOperation as Loose, () => [randomProgram(1, 1).operations[0]], [
    arg(0, 'operation', 'object'),
    field(0, 'verb', 'word', { optional: false }),
  ]),
  plain('printFinding', printFinding as Loose, () => [{ kind: 'check', schedule: '', error: 1 }], [
    arg(0, 'finding', 'object'),
    field(0, 'kind', 'word', { optional: false }),
    field(0, 'schedule', 'text', { optional: false }),
  ]),
  plain('checked', checked as Loose, () => [plainDriver(), new Checks()], [
    arg(0, 'driver', 'object'),
    arg(1, 'checks', 'object', { optional: true }),
  ]),
  plain(
    'Checks.constructor',
    (options) => new Checks(options),
    () => [{}],
    [arg(0, 'checks options', 'options', { optional: true }), field(0, 'throw', 'boolean'), field(0, 'max', 'count')],
  ),
  plain('traced', traced as Loose, () => [plainDriver(), new DriverTrace()], [arg(0, 'driver', 'object'), arg(1, 'trace', 'object')]),
  plain(
    'DriverTrace.constructor',
    (options) => new DriverTrace(options),
    () => [{}],
    [arg(0, 'trace options', 'options', { optional: true }), field(0, 'max', 'count')],
  ),
  plain(
    'DriverTrace.text',
    (last) => new DriverTrace().text(last),
    () => [1],
    [arg(0, 'last', 'index', { optional: true, except: ['Infinity'] })],
  ),
  plain('wrapDriver', wrapDriver as Loose, () => [plainDriver(), {}], [
    arg(0, 'driver', 'object'),
    field(0, 'attach', 'function', { optional: false }),
    arg(1, 'layer', 'options'),
  ]),
  plain('wrapFactory', wrapFactory as Loose, () => [nouveau, (driver: unknown) => driver], [
    arg(0, 'factory', 'function'),
    arg(1, 'wrap', 'function'),
  ]),
  plain(
    'FaultPlan.seeded',
    (seed, options) => FaultPlan.seeded(seed, options),
    () => [1, { rate: 0.5 }],
    [
      arg(0, 'seed', 'index', { except: ['below zero', 'a page below zero'] }),
      arg(1, 'seeded options', 'options'),
      field(1, 'rate', 'index', { optional: false, except: ['a fraction', 'the smallest number'] }),
      field(1, 'operations', 'array'),
      field(1, 'operations.0', 'word', { optional: false, also: ['operations'] }),
      field(1, 'faults', 'array'),
      field(1, 'faults.0', 'word', { optional: false, also: ['faults'] }),
    ],
  ),
  plain(
    'gradeDriver',
    gradeDriver as Loose,
    () => [nouveau, { cases: 'nothing of this name' }],
    [
      arg(0, 'factory', 'function'),
      arg(1, 'expectations', 'options', { optional: true }),
      field(1, 'machine', 'options'),
      field(1, 'seed', 'index'),
      field(1, 'cases', 'word', { except: ['an empty array'] }),
    ],
    true,
  ),
  plain(
    'driverContract',
    driverContract as Loose,
    () => [nouveau, { cases: 'nothing of this name' }, { describe: () => {}, it: () => {} }],
    [
      arg(0, 'factory', 'function'),
      arg(1, 'expectations', 'options'),
      arg(2, 'runner', 'object'),
      field(2, 'describe', 'function', { optional: false }),
      field(2, 'it', 'function', { optional: false }),
    ],
  ),
  plain('printReport', printReport as Loose, () => [{ cases: [] }, 'x'], [
    arg(0, 'report', 'object'),
    arg(1, 'module', 'text', { optional: true }),
  ]),
  plain('printFailure', printFailure as Loose, () => [{ name: 'x' }, 'x'], [
    arg(0, 'report', 'object'),
    arg(1, 'module', 'text', { optional: true }),
  ]),
  plain('badInputs', badInputs as Loose, () => ['address', {}], [
    arg(0, 'sort', 'word'),
    arg(1, 'badInputs options', 'options', { optional: true }),
    field(1, 'except', 'array'),
    field(1, 'except.0', 'word', { optional: false, also: ['except'] }),
  ]),
  plain('faulty', faulty as Loose, () => [plainDriver(), new FaultPlan()], [arg(0, 'driver', 'object'), arg(1, 'plan', 'object')]),
  plain('decoupled', decoupled as Loose, () => [plainDriver()], [arg(0, 'driver', 'object')]),
  plain('faultsOf', faultsOf as Loose, () => ['attach'], [arg(0, 'operation', 'word')]),
  plain(
    'FaultPlan.fail',
    (...values) => (new FaultPlan().fail as Loose).call(new FaultPlan(), ...values),
    () => ['attach', 1, 'throw'],
    [arg(0, 'operation', 'word'), arg(1, 'call', 'count'), arg(2, 'fault', 'word')],
  ),
  plain('randomProgram', randomProgram as Loose, () => [1, 3], [arg(0, 'seed', 'seed'), arg(1, 'length', 'index', { limit: 2 ** 20 })]),
  plain('parseProgram', parseProgram as Loose, () => ['dram 16'], [arg(0, 'program', 'word', { also: ['text'], except: ['empty text'] })]),
  plain('printProgram', printProgram as Loose, () => [randomProgram(1, 1)], [arg(0, 'program', 'object')]),
  plain('shrinkProgram', shrinkProgram as Loose, () => [randomProgram(1, 1), () => false], [
    arg(0, 'program', 'object'),
    arg(1, 'fails', 'function', { also: ['still'] }),
  ]),
  plain('exploreAll', exploreAll as Loose, () => [() => ({ steps: [], check: () => {} }), {}], [
    arg(0, 'setup', 'function'),
    arg(1, 'exploreAll options', 'options', { optional: true }),
    field(1, 'limit', 'count'),
  ]),
  plain('exploreSeeded', exploreSeeded as Loose, () => [() => ({ steps: [], check: () => {} }), 1, 1], [
    arg(0, 'setup', 'function'),
    arg(1, 'seed', 'seed'),
    arg(2, 'runs', 'count'),
  ]),
  plain('replaySchedule', replaySchedule as Loose, () => [() => ({ steps: [], check: () => {} }), ''], [
    arg(0, 'setup', 'function'),
    arg(1, 'schedule', 'word', { except: ['empty text', 'a number in text'] }),
  ]),
  row(
    'nouveau',
    ({ machine }, [options]) => machine.addDevice(nouveau(options)),
    () => [{}],
    [
      arg(0, 'options', 'options', { optional: true }),
      field(0, 'vram', 'count'),
      field(0, 'granule', 'count'),
      field(0, 'faultEntries', 'count'),
    ],
    { closed: 'nothing' },
  ),
  row(
    'integrated',
    ({ machine }, [options]) => machine.addDevice(integrated(options)),
    () => [{}],
    [arg(0, 'options', 'options', { optional: true }), field(0, 'faultEntries', 'count')],
    { closed: 'nothing' },
  ),
  row(
    'kvm',
    ({ machine }, [options]) => machine.addDevice(kvm(options)),
    () => [{}],
    [arg(0, 'options', 'options', { optional: true }), field(0, 'dirtyLog', 'word'), field(0, 'granule', 'count')],
    { closed: 'nothing' },
  ),
  row(
    'rdma',
    ({ machine }, [options]) => machine.addDevice(rdma(options)),
    () => [{}],
    [arg(0, 'options', 'options', { optional: true })],
    { closed: 'nothing' },
  ),
  row(
    'npu',
    ({ machine }, [options]) => machine.addDevice(npu(options)),
    () => [{}],
    [
      arg(0, 'options', 'options', { optional: true }),
      field(0, 'vram', 'count'),
      field(0, 'granule', 'count'),
      field(0, 'timeout', 'count'),
      field(0, 'latency', 'count'),
      field(0, 'kept', 'object', { except: ['an empty array'] }),
    ],
    { closed: 'nothing' },
  ),
  row(
    'iommu',
    ({ machine }, [options]) => machine.addDevice(iommu(options)),
    () => [{}],
    [
      arg(0, 'options', 'options', { optional: true }),
      field(0, 'flush', 'word'),
      field(0, 'queueEntries', 'count'),
      field(0, 'flushTicks', 'count'),
      field(0, 'iotlbEntries', 'count'),
      field(0, 'addressBits', 'count'),
      field(0, 'strategy', 'word'),
    ],
    { closed: 'nothing' },
  ),
  row(
    'mirror',
    ({ machine }, [options]) => machine.addDevice(mirror(options)),
    () => [{}],
    [
      arg(0, 'options', 'options', { optional: true }),
      field(0, 'granule', 'count'),
      field(0, 'faultEntries', 'count'),
      field(0, 'ownTable', 'boolean'),
    ],
    { closed: 'nothing' },
  ),
  row(
    'dmirror',
    ({ machine }, [options]) => machine.addDevice(dmirror(options)),
    () => [{}],
    [
      arg(0, 'options', 'options', { optional: true }),
      field(0, 'name', 'word', { except: ['the name of what every object has'] }),
      field(0, 'kind', 'word'),
      field(0, 'chunkBytes', 'count'),
    ],
    { closed: 'nothing' },
  ),
];

export const ROWS: readonly Row[] = [
  ...machines,
  ...spaces,
  ...hints,
  ...streams,
  ...advice,
  ...contexts,
  ...devices,
  ...files,
  ...pins,
  ...hmms,
  ...vas,
  ...functions,
];

/** Functions without arguments, or with one that may be anything: what a closed machine answers. */
export const BARE: readonly Row[] = [
  ...machine('verify', () => [], []),
  ...machine('cost', () => [], []),
  ...machine('flushDeferred', () => [], []),
  ...machine('reset', () => [], []),
  ...machine('close', () => [], [], { closed: 'nothing' }),
  ...space('close', () => [], []),
  ...space('closeAsync', () => [], [], { rejects: true }),
  ...context('command', () => [{}], [], { twin: true }),
  ...context('commandStep', () => [{}], []),
  ...context('detach', () => [], [], { twin: true }),
  ...context('detachStep', () => [], []),
  ...context('batchStep', () => [], []),
  ...context('serveStep', () => [], []),
  ...space('exec', () => [], [], { twin: true, step: 'execStep' }),
  ...context('stream', () => [], []),
  ...stream('record', () => [], []),
  ...stream('synchronizeAsync', () => [], [], { rejects: true }),
  ...file('sync', () => [], [], { twin: true }),
  ...file('close', () => [], []),
  ...pin('unpin', () => [], []),
  ...dma('free', () => [], [], { closed: 'nothing' }),
  row(
    'Ticket.complete',
    ({ ticket }) => ticket.complete(),
    () => [],
    [],
    { closed: 'nothing' },
  ),
  plain('newCounters', newCounters, () => [], []),
  plain(
    'Checks.text',
    () => new Checks().text(),
    () => [],
    [],
  ),
  plain(
    'Checks.finish',
    () => new Checks().finish(),
    () => [],
    [],
  ),
  plain(
    'DriverTrace.clear',
    () => new DriverTrace().clear(),
    () => [],
    [],
  ),
  plain(
    'FaultPlan.count',
    () => new FaultPlan().count(),
    () => [],
    [],
  ),
  plain(
    'VaSpace.shrink',
    () => addresses().shrink(),
    () => [],
    [],
  ),
  plain(
    'MappingSet.free',
    () => mappings(true)[0].free(),
    () => [],
    [],
  ),
  plain(
    'FaultPlan.finish',
    () => new FaultPlan().finish(),
    () => [],
    [],
  ),
];

const STEP = 'a step: the maker of its verb has checked what it is made of, and runners drive it';
const LENT = 'a list that the framework fills and lends, page by page: a check would cost each page';
const OWN = 'a list of a driver itself, asked page by page: a check would cost each page';
const MODEL = 'the naive model of the tests: it knows nothing of the library, its errors too';
const INSIDE = 'what steps and devices ask of it: numbers that come from the machine itself';

/** Functions, or whole classes, that are not in the table, and why. */
export const ELSEWHERE: Readonly<Record<string, string>> = {
  isFarfaultError: 'takes anything',
  isTicket: 'takes anything',
  isDriverFactory: 'takes anything',
  fail: 'makes the error: what it is given is what is wrong',
  ...Object.fromEntries(
    [
      'CpuAccess',
      'Collapse',
      'MakeExclusive',
      'CpuFault',
      'Fork',
      'Hint',
      'HintMark',
      'Memcpy',
      'Reap',
      'Mmap',
      'Mremap',
      'ReadBegin',
      'RemoveNotifier',
      'PinRange',
      'MirrorRange',
      'RangeFault',
      'TakeDown',
      'Truncate',
      'WriteBack',
    ].map((name) => [name, STEP]),
  ),
  ...Object.fromEntries(
    ['toDevice', 'toPeer', 'toHost', 'framesToHost', 'framesToTier', 'fromTier', 'vma', 'frames'].map((name) => [
      `MigrationOrder.${name}`,
      STEP,
    ]),
  ),
  'Migration.next': STEP,
  'Migration.abort': STEP,
  ...Object.fromEntries(['Copies', 'Mappings', 'Ranges', 'Marks'].map((name) => [name, LENT])),
  DeviceTable: 'the operations of a pmap: the framework calls them with its lists',
  DeviceTlb: 'the operations of a tlb: the framework calls them with its lists',
  'FaultBatch.cancelled': INSIDE,
  'Iommu.take': INSIDE,
  'Iommu.give': INSIDE,
  'Iommu.map': INSIDE,
  'Iommu.unmap': INSIDE,
  'Invalidation.set': INSIDE,
  'Invalidation.ofWrites': INSIDE,
  'Invalidation.close': INSIDE,
  Node: INSIDE,
  Arrivals: INSIDE,
  DevicePins: INSIDE,
  VmaSet: INSIDE,
  PageMap: OWN,
  Translations: OWN,
  SharedObject: INSIDE,
  ...Object.fromEntries(
    ['take', 'markDirty', 'requireOpen', 'dirtyPages', 'store', 'growTo', 'shrinkTo'].map((name) => [`MemoryFile.${name}`, INSIDE]),
  ),
  ...Object.fromEntries(
    ['announce', 'granule', 'rights', 'writable', 'mirrorOf', 'release', 'requireOpen', 'requireChangeable'].map((name) => [
      `MemoryMap.${name}`,
      INSIDE,
    ]),
  ),
  ...Object.fromEntries(
    [
      'isOf',
      'holding',
      'memoryOf',
      'memoryAt',
      'nodeAt',
      'hasEngine',
      'hasPeerEngine',
      'coupledIn',
      'mirrorIn',
      'copy',
      'zero',
      'withdraw',
      'duplicates',
      'mayDuplicateIn',
      'keep',
      'contextOf',
    ].map((name) => [`Device.${name}`, INSIDE]),
  ),
  'OwnMemory.takeFrame': INSIDE,
  'OwnMemory.victims': INSIDE,
  'OwnMemory.freed': INSIDE,
  'OwnMemory.needs': INSIDE,
  'OwnMemory.dropReplicas': INSIDE,
  Replicas: INSIDE,
  ...Object.fromEntries(['ownFrame', 'service', 'requireWorking', 'end', 'removeNotifierStep'].map((name) => [`Context.${name}`, INSIDE])),
  ...Object.fromEntries(
    [
      'memoryOf',
      'pageOf',
      'frameOf',
      'reaches',
      'installPages',
      'installRun',
      'installReplicas',
      'readsCopy',
      'holds',
      'installAlone',
      'frameBehind',
      'installAnswer',
      'markAtomic',
      'withdraw',
      'withdrawOne',
      'failWith',
      'invalidate',
    ].map((name) => [`DeviceMirror.${name}`, INSIDE]),
  ),
  ...Object.fromEntries(
    ['covers', 'readBegin', 'readRetry', 'checkRetry'].map((name) => [
      `IntervalNotifier.${name}`,
      'a comparison of numbers in the loop of every mirror: one that was never begun asks for a retry',
    ]),
  ),
  'Ticket.enqueue': STEP,
  'Ticket.leave': STEP,
  Lock: STEP,
  RwLock: STEP,
  lackeyAccesses: MODEL,
  modelReplay: MODEL,
  ModelMachine: MODEL,
  Bench: 'what cases of the contract are written with: a case that misuses it fails',
};
