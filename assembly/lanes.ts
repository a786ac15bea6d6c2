import {
  BLOCK_ACCESSES,
  FAULT_BYTES,
  FAULT_SPAN_AFTER,
  FAULT_SPAN_BEFORE,
  FAULT_WRITE,
  H_STOP_REASON,
  JOB_ACCESSES,
  JOB_EXECUTED,
  JOB_FAULTS,
  JOB_FAULTS_MAX,
  JOB_LANES,
  JOB_LANE_NEXT,
  JOB_OVERFLOW,
  JOB_STALLED,
  JOB_STRAIGHT,
  STOP_BYTES,
  STOP_FAULT,
  STOP_NONE,
} from './layout';
import { executeNext, RAN_ACCESSES, reachable, runBlock, runStraight, stopAt } from './access';
import { crosses, vpnOf, writeOf } from './packed-access';
import { numberFrom } from './run';
import { tlbCount } from './tlb';

/**
 * Lanes: how a device runs a job.
 *
 * Access k of a job belongs to lane k mod lanes, and every lane runs its accesses in order. A round is turns over the lanes, 0 first: a
 * lane executes one access a turn, until it is finished or stalls on a fault. The round ends when no lane can go on; by then the fault buffer
 * holds a batch, with duplicates where lanes want one page, and with losses where it is full: a lane whose record was lost stalls all the
 * same, and faults again in the next round.
 *
 * ```
 * turn 0   lane 0: access 0   lane 1: access 1   lane 2: access 2 (faults, stalls)
 * turn 1   lane 0: access 3   lane 1: access 4   .
 * turn 2   lane 0: access 6   ...
 * ```
 */

/** In the list of the lanes that go on: one that does not any more. */
const STALLED: u32 = 0xffffffff;

/** Prepares a job of `n` accesses over `lanes` lanes, with a fault buffer of `faultsMax` records. */
export function jobBegin(job: u32, n: u32, lanes: u32, faultsMax: u32): void {
  memory.fill(job, 0, JOB_LANE_NEXT);
  store<u32>(job, n, JOB_ACCESSES);
  store<u32>(job, lanes, JOB_LANES);
  store<u32>(job, faultsMax, JOB_FAULTS_MAX);
  for (let lane: u32 = 0; lane < lanes; lane++) store<u32>(job + (lane << 2), lane, JOB_LANE_NEXT);
}

/**
 * Runs one round. Executed indices are appended at `order` (u32 each) from JOB_EXECUTED on, fault records are written at `faults`.
 * Returns the number of lanes that stalled: 0 means that the job is done. JOB_EXECUTED counts all accesses executed so far.
 * With STOP_BYTES in H_STOP_REASON the round broke off at a page whose bytes are elsewhere; H_STOP_INDEX is the access.
 *
 * As long as all lanes are at the same turn, the round is a straight run over the accesses. Once one has stalled, the others go on from a list: the order of the turns is written for a block of accesses at a time, where it will stay, and taken back
 * from an access on that stalls.
 */
export function laneRound(tlb: u32, job: u32, accesses: u32, values: u32, order: u32, faults: u32): u32 {
  const n = load<u32>(job, JOB_ACCESSES),
    lanes = load<u32>(job, JOB_LANES),
    live = job + JOB_LANE_NEXT + (lanes << 2),
    before = load<u32>(job, JOB_EXECUTED);
  store<u32>(job, 0, JOB_FAULTS);
  store<u32>(job, 0, JOB_OVERFLOW);
  store<u32>(H_STOP_REASON, STOP_NONE);
  // The next accesses of the lanes that can go on, in lane order, as a list behind the lanes' own words.
  const first = load<u32>(job, JOB_LANE_NEXT);
  let going: u32 = 0,
    level: bool = true;
  for (let lane: u32 = 0; lane < lanes; lane++) {
    const next = load<u32>(job + (lane << 2), JOB_LANE_NEXT);
    if (next != first + lane) level = false;
    if (next < n) store<u32>(live + (going++ << 2), next);
  }
  let executed = before,
    stalled: u32 = 0,
    i: u32 = 0,
    kept: u32 = 0;
  if (level && first < n) {
    const end = runStraight(tlb, accesses, values, first, n);
    numberFrom(order + (executed << 2), first, end);
    if (executed == first && load<u32>(job, JOB_STRAIGHT) == first) store<u32>(job, end, JOB_STRAIGHT);
    executed += end - first;
    const status = load<u32>(H_STOP_REASON),
      turn = end - ((end - first) % lanes);
    // The lanes before that of access `end` have had this turn; the others have it next.
    going = 0;
    for (let lane: u32 = 0; lane < lanes; lane++) {
      const index = turn + lane,
        next = index < end ? index + lanes : index;
      store<u32>(job + (lane << 2), next, JOB_LANE_NEXT);
      if (next < n && next != end) store<u32>(live + (going++ << 2), next);
      if (index < end) kept = going;
    }
    if (status == STOP_BYTES) return brokenOff(tlb, job, accesses, executed, end, 0);
    if (status == STOP_FAULT) {
      record(tlb, job, faults, load<u64>(accesses + (end << 3)), end - turn, end);
      stalled = 1;
      i = kept;
    }
  }

  // Whether lanes that do not go on stand in the list.
  let gaps: bool = false;
  for (;;) {
    if (i == going) {
      if (gaps) going = close(job, live, going);
      if (!going) break;
      gaps = false;
      i = 0;
    }
    // Some turns, or a part of one: taken as if nothing could come in between.
    const list = order + (executed << 2);
    let count: u32 = 0,
      slot = i;
    do {
      if (slot == going) slot = 0;
      const some = min<u32>(going - slot, BLOCK_ACCESSES - count);
      if (take(live + (slot << 2), list + (count << 2), some, lanes, n)) gaps = true;
      slot += some;
      count += some;
    } while (count < <u32>BLOCK_ACCESSES && (slot < going || !gaps));
    const ran = runBlock(tlb, accesses, values, list, count),
      done = ran & RAN_ACCESSES;
    executed += done;
    if (done < count) {
      // Access `done` is tried by itself, and what is behind it has not had its turn.
      for (; count > done; count--) {
        slot = slot ? slot - 1 : going - 1;
        store<u32>(live + (slot << 2), load<u32>(list + ((count - 1) << 2)));
      }
      const index = load<u32>(list + (done << 2)),
        access = load<u64>(accesses + (index << 3)),
        status = executeNext(ran, tlb, access, values + (index << 3));
      if (status == STOP_BYTES) {
        keep(job, live, close(job, live, going));
        return brokenOff(tlb, job, accesses, executed, index, stalled);
      }
      if (status == STOP_NONE) {
        executed++;
        store<u32>(live + (slot << 2), index + lanes);
      } else {
        const lane = index % lanes;
        store<u32>(job + (lane << 2), index, JOB_LANE_NEXT);
        record(tlb, job, faults, access, lane, index);
        stalled++;
        store<u32>(live + (slot << 2), STALLED);
        gaps = true;
      }
      slot++;
    }
    i = slot;
  }
  tlbCount(tlb, executed - before);
  store<u32>(job, executed, JOB_EXECUTED);
  store<u32>(job, stalled, JOB_STALLED);
  store<u32>(H_STOP_REASON, STOP_NONE);
  return stalled;
}

/** Copies the next accesses of `some` lanes from `live` to `list`; the ones after them are next then. Whether one of the lanes has none any more. */
function take(live: u32, list: u32, some: u32, lanes: u32, n: u32): bool {
  const step = i32x4.splat(lanes),
    last = i32x4.splat(n - 1),
    end = live + (some << 2);
  let past = i32x4.splat(0);
  // Four at a time.
  for (; live + 16 <= end; live += 16, list += 16) {
    const four = v128.load(live),
      next = i32x4.add(four, step);
    v128.store(list, four);
    v128.store(live, next);
    past = v128.or(past, i32x4.gt_u(next, last));
  }
  let ends = v128.any_true(past);
  for (; live < end; live += 4, list += 4) {
    const index = load<u32>(live);
    store<u32>(list, index);
    store<u32>(live, index + lanes);
    if (index + lanes >= n) ends = true;
  }
  return ends;
}

/** Takes the lanes that do not go on out of the list of `going`: those that have finished say so in their words, those that stalled have. Returns how many are left. */
function close(job: u32, live: u32, going: u32): u32 {
  const n = load<u32>(job, JOB_ACCESSES),
    lanes = load<u32>(job, JOB_LANES);
  let kept: u32 = 0;
  for (let slot: u32 = 0; slot < going; slot++) {
    const next = load<u32>(live + (slot << 2));
    if (next < n) store<u32>(live + (kept++ << 2), next);
    else if (next != STALLED) store<u32>(job + ((next % lanes) << 2), next, JOB_LANE_NEXT);
  }
  return kept;
}

/** Notes the next accesses of the lanes in the list with their lanes. */
function keep(job: u32, live: u32, going: u32): void {
  const lanes = load<u32>(job, JOB_LANES);
  for (let slot: u32 = 0; slot < going; slot++) {
    const next = load<u32>(live + (slot << 2));
    store<u32>(job + ((next % lanes) << 2), next, JOB_LANE_NEXT);
  }
}

/** A round that ends at an access whose page's bytes are elsewhere. That was translated all the same. */
function brokenOff(tlb: u32, job: u32, accesses: u32, executed: u32, index: u32, stalled: u32): u32 {
  tlbCount(tlb, executed - load<u32>(job, JOB_EXECUTED) + 1);
  store<u32>(job, executed, JOB_EXECUTED);
  stopAt(STOP_BYTES, vpnOf(load<u64>(accesses + (index << 3))), index);
  return stalled;
}

/** Gives up the access on which a lane stalls: a cancelled fault. The lane goes on with its next one. */
export function laneCancel(job: u32, lane: u32): void {
  const cell = job + (lane << 2);
  store<u32>(cell, load<u32>(cell, JOB_LANE_NEXT) + load<u32>(job, JOB_LANES), JOB_LANE_NEXT);
}

/** Writes a record for each page of an access that has no sufficient entry: one inside a page has none for that. */
function record(tlb: u32, job: u32, faults: u32, access: u64, lane: u32, index: u32): void {
  const vpn = vpnOf(access),
    write = writeOf(access),
    flags: u32 = write ? FAULT_WRITE : 0;
  if (!crosses(access)) {
    push(job, faults, vpn, flags, lane, index);
    return;
  }
  if (!reachable(tlb, vpn, write)) push(job, faults, vpn, flags | FAULT_SPAN_AFTER, lane, index);
  if (!reachable(tlb, vpn + 1, write)) push(job, faults, vpn + 1, flags | FAULT_SPAN_BEFORE, lane, index);
}

function push(job: u32, faults: u32, vpn: u64, flags: u32, lane: u32, index: u32): void {
  const count = load<u32>(job, JOB_FAULTS);
  if (count >= load<u32>(job, JOB_FAULTS_MAX)) {
    store<u32>(job, load<u32>(job, JOB_OVERFLOW) + 1, JOB_OVERFLOW);
    return;
  }
  const slot = faults + count * FAULT_BYTES;
  store<u32>(slot, <u32>vpn);
  store<u32>(slot, (<u32>(vpn >> 32)) | flags, 4);
  store<u32>(slot, lane, 8);
  store<u32>(slot, index, 12);
  store<u32>(job, count + 1, JOB_FAULTS);
}
