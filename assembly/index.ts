/**
 * What the core exports: numbers in, numbers out, no i64. `sdk/core/abi.ts` is the other side of this list.
 */
export { clearTouched, nodeCreate, nodeDestroy } from './node';
export {
  frameTake,
  frameTakeMany,
  frameMark,
  frameClaim,
  frameClaimMany,
  frameGet,
  framePut,
  framePin,
  frameUnpin,
  frameTryLock,
  frameUnlock,
  frameTouch,
  frameClear,
  frameCopy,
} from './frame';
export { frameBytes } from './node';
export { rmapAddPage, rmapRemovePage, rmapList, rmapPlaces } from './rmap';
export { tableCreate, tableDestroy, tableWalk } from './table';
export {
  rangeMap,
  rangeMapOrder,
  rangeMapWords,
  rangeUnmap,
  rangeProtect,
  rangeSplit,
  rangeCollapse,
  rangeCount,
  rangeNext,
} from './range';
export { lookupBatch, lookupDependent } from './lookup';
export { alikeEnd } from './run';
export { snapshotNative, snapshotHmm } from './snapshot';
export { snapshotExtents } from './extents';
export { harvestVictims, tableHarvest, tableMark } from './harvest';
export { mapZero, mapFresh, mapReuse, zap, zapLazy, reprotect } from './space';
export { splitHuge, mapHuge, mapHugetlb, collapseHuge } from './huge';
export { canReuse, mapCopy, mapFrame, mapSpecial, mapShared, mapOwn, frameClean } from './cow';
export { forkRange } from './fork';
export { moveEntries } from './remap';
export { exclusiveSet, exclusiveClear, cpuReadsSet } from './exclusive';
export { duplicateSet, replicaSet, replicaPart } from './replica';
export { migrateCollect, migrateCollectFrames } from './migrate-collect';
export { migrateCommit } from './migrate-commit';
export { migrateSplit, migrateCopy, migrateFinalize } from './migrate';
export { movablePages, movingRuns, movingTally } from './moving';
export { aimEach, aimWanting } from './aim';
export { pageIsolate, pageRestore, pageSettle } from './page-move';
export { coldFrames, usedFrames, victims, victimsByUse } from './victims';
export { backingDrop, backingOf } from './backing';
export { tlbCreate, tlbDestroy, tlbInvalidate, tlbFlush } from './tlb';
export { runAccesses, copyThrough, fillValues } from './access';
export { accessesAhead, faultsAhead } from './ahead';
export { jobBegin, laneRound, laneCancel } from './lanes';
export { lackeyParse } from './lackey';
export { verify } from './verify';
export { byteMapAhead, byteMapRepeat } from './byte-map';
export { countReads, gatherAccesses, runEnd, nextBlock, scaleAccesses } from './trace';
