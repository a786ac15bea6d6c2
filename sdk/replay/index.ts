/** Traces in, a machine driven, a report out. */
export { type Preset, PRESET_DEFAULT, type PresetConstants, presets } from '../policy/preset.ts';
export type { ByteSource } from './gzip.ts';
export { mergeRanges, type OffloadRange, parseRange, parseSidecar, printRange, type Sidecar } from './offload.ts';
export { REPLAY_LINKS, type ReplayDevice, type ReplayLink } from './replay.ts';
export type { ReplayOptions } from './replay-options.ts';
export { replayTrace } from './replay-trace.ts';
export { type Timeline, timeline, type TimelineOptions } from './timeline.ts';
export { measureTrace, type MeasureOptions, type WorkingSet } from './working-set.ts';
export {
  formatReport,
  formatReports,
  type ModelledParts,
  type ReplayDetail,
  type ReplayReport,
  type ReplaySettings,
  type TlbCounts,
} from './report.ts';
