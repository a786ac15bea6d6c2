/**
 * Presets: what the counted things of a replay cost. Pure data; every constant says where it comes from, and reports print the name.
 *
 * Modelled time is a plain sum in integer nanoseconds: nothing overlaps, lanes do not run beside each other. It ranks policies; it does not predict a machine.
 */

/** Constants of one preset: integers; links cost a latency per transfer and picoseconds per KiB. */
export interface PresetConstants {
  /** One access of the CPU, of a lane. */
  readonly cpuAccessNs: number;
  readonly deviceAccessNs: number;
  /** One TLB miss: the walk. */
  readonly cpuWalkNs: number;
  readonly deviceWalkNs: number;
  /** One CPU fault, without the transfer it causes. */
  readonly cpuFaultNs: number;
  /** One fault batch: interrupt, fetch, replay; and each record in it. */
  readonly batchNs: number;
  readonly recordNs: number;
  /** One notifier event delivered to one context. */
  readonly invalidationNs: number;
  /** One transfer over the link. */
  readonly linkLatencyNs: number;
  readonly toDevicePsPerKiB: number;
  readonly toHostPsPerKiB: number;
  /** From device to device, over a link between them. */
  readonly peerPsPerKiB: number;
}

/** Constants with a name and their sources. */
export interface Preset extends PresetConstants {
  readonly name: string;
  /** One line for reports: what is modelled and where the numbers come from. */
  readonly source: string;
  /** Source of each constant. */
  readonly sources: Readonly<Record<keyof PresetConstants, string>>;
}

const ASSUMED = 'assumption of this project: no published figure';
const CPU_SIDE = {
  cpuAccessNs: ASSUMED,
  cpuWalkNs: 'assumption of this project, after 100 cycles of a page walk in UVMSmart and MGPUSim at a 3 GHz host',
  cpuFaultNs: ASSUMED,
  invalidationNs: ASSUMED,
} as const;
const UVMSMART_LINK =
  'line through the 4 KiB (1.76 us) and 2 MiB (163.5 us) points of the bandwidth curve in the UVMSmart simulator, PCIe 3.0 x16 (12 GiB/s asymptote)';

const PEER_LINK = 'assumption of this project: a link between two devices is as fast as the one from the host to a device';

/** GTX 1080 Ti as configured in UVMSmart: 45 us far faults, PCIe 3.0 x16. The default. */
const uvmsmart1080ti: Preset = {
  name: 'uvmsmart-1080ti',
  source: 'GTX 1080 Ti as configured in the UVMSmart simulator (Ganguly et al., ISCA 2019): 45 us far fault, PCIe 3.0 x16',
  cpuAccessNs: 1,
  deviceAccessNs: 1,
  cpuWalkNs: 33,
  deviceWalkNs: 68,
  cpuFaultNs: 1000,
  batchNs: 45000,
  recordNs: 0,
  invalidationNs: 1000,
  linkLatencyNs: 1443,
  toDevicePsPerKiB: 79130,
  toHostPsPerKiB: 79130,
  peerPsPerKiB: 79130,
  sources: {
    ...CPU_SIDE,
    deviceAccessNs: 'UVMSmart: TLB hit of 1 cycle at 1481 MHz, rounded up',
    deviceWalkNs: 'UVMSmart: page walk of 100 cycles at 1481 MHz',
    batchNs: 'UVMSmart: far fault of 66,645 cycles at 1481 MHz = 45 us, charged once a batch',
    recordNs: 'UVMSmart charges nothing for further records of a batch',
    linkLatencyNs: UVMSMART_LINK,
    toDevicePsPerKiB: UVMSMART_LINK,
    toHostPsPerKiB: UVMSMART_LINK,
    peerPsPerKiB: PEER_LINK,
  },
};

const NVPROF = 'nvprof files of a GTX 1080 Ti in the UVMSmart repository: 10.7 ms for 69 fault groups of backprop';

/** The same card as measured: 155 us a fault group. */
const nvprof1080ti: Preset = {
  ...uvmsmart1080ti,
  name: 'nvprof-1080ti',
  source: 'GTX 1080 Ti as measured with nvprof (files of the UVMSmart repository): 155 us a fault group, PCIe 3.0 x16',
  batchNs: 155000,
  sources: { ...uvmsmart1080ti.sources, batchNs: NVPROF },
};

const GRACE_HOPPER = 'measured on Grace Hopper, arXiv 2407.07850: 375 GB/s host to device, 297 GB/s device to host';

/** A fast link: Grace Hopper's NVLink-C2C. */
const gh200: Preset = {
  ...nvprof1080ti,
  name: 'gh200-c2c',
  source: 'Grace Hopper, NVLink-C2C bandwidth as measured (arXiv 2407.07850); fault costs of a GTX 1080 Ti for want of published ones',
  linkLatencyNs: 500,
  toDevicePsPerKiB: 2731,
  toHostPsPerKiB: 3448,
  peerPsPerKiB: 2731,
  sources: {
    ...nvprof1080ti.sources,
    linkLatencyNs: ASSUMED,
    toDevicePsPerKiB: GRACE_HOPPER,
    toHostPsPerKiB: GRACE_HOPPER,
    peerPsPerKiB: PEER_LINK,
  },
};

/** Every preset by name. */
export const presets: Readonly<Record<string, Preset>> = Object.fromEntries(
  [uvmsmart1080ti, nvprof1080ti, gh200].map((preset) => [preset.name, preset]),
);

/** The preset of a replay that does not name one. */
export const PRESET_DEFAULT = 'uvmsmart-1080ti';
