/**
 * What stands between an access and the host memory of a page, and how it is put right. The CPU counts these as its faults; a device that
 * needs the same done asks for it without counting.
 */
import type { FaultCause } from './counters.ts';
import { countCopied } from './counters.ts';
import { type Frame, type FrameOwner, HOST_NODE, ZERO_FRAME } from './frame.ts';
import type { ModelSpace } from './space.ts';
import { granuleBlock } from './vma.ts';

/** Why the CPU could not do an access that the VMA allows; undefined when it could. */
export function faultCause(space: ModelSpace, vpn: number, write: boolean): FaultCause | undefined {
  const entry = space.pages.get(vpn);
  if (entry === undefined) return write ? 'demand' : 'zero';
  switch (entry.kind) {
    case 'zero':
      return write ? 'cow' : undefined;
    case 'host':
      return write && !entry.write ? 'reuse' : undefined;
    case 'device':
      return 'home';
  }
}

/** Puts one cause right. False: there was no host frame, and nothing has changed. */
export function resolve(space: ModelSpace, vpn: number, cause: FaultCause): boolean {
  switch (cause) {
    case 'zero':
      space.pages.set(vpn, { kind: 'zero', frame: ZERO_FRAME, write: false, dirty: false });
      return true;
    case 'demand':
      return populate(space, vpn);
    case 'cow': {
      if (space.host.used === space.host.pages) return false;
      space.notify(vpn, vpn + 1);
      space.cpu.tlb.drop(vpn);
      return populate(space, vpn);
    }
    case 'reuse':
      space.pages.get(vpn)!.write = true;
      space.cpu.tlb.drop(vpn);
      return true;
    case 'home':
      return bringHome(space, vpn);
  }
}

function populate(space: ModelSpace, vpn: number): boolean {
  const frame = space.host.take();
  if (frame === undefined) return false;
  space.pages.set(vpn, { kind: 'host', frame, write: true, dirty: false });
  return true;
}

/**
 * Moves the device-private pages of one device, in the granule around a page, to host frames: one migration. The page itself comes first;
 * others for which there is no frame stay where they are. Models: `migrate_to_ram`.
 */
function bringHome(space: ModelSpace, vpn: number): boolean {
  const owner = space.pages.get(vpn)!.frame.owner!;
  return moveHome(space, owner, granuleBlock(space.vmas.find(vpn)!, vpn, owner.granulePages), vpn).has(vpn);
}

/**
 * One migration: the pages of one device in a range go to host frames, `first` before the others. Those for which there is no frame stay,
 * but the event is over the whole range, and the device has lost its entries of them too. Returns the pages that moved.
 */
export function moveHome(
  space: ModelSpace,
  owner: FrameOwner,
  { start, end }: { start: number; end: number },
  first?: number,
): Set<number> {
  const candidates = space.mapped(start, end).filter((vpn) => space.pages.get(vpn)!.frame.owner === owner);
  if (first !== undefined) candidates.sort((a, b) => Number(b === first) - Number(a === first));
  const frames = new Map<number, Frame>();
  for (const vpn of candidates) {
    const frame = space.host.take();
    if (frame === undefined) break;
    frames.set(vpn, frame);
  }
  space.notify(start, end, { owner, pages: candidates });
  for (const [vpn, frame] of frames) sendHome(space, vpn, frame);
  countCopied(space.counters, frames.size, { from: owner.node, to: HOST_NODE, cause: 'home' });
  return new Set(frames.keys());
}

/** Copies one device-private page to a host frame and frees the device frame. The page keeps its write flavour. */
export function sendHome(space: ModelSpace, vpn: number, frame: Frame): void {
  const { frame: source, write, dirty } = space.pages.get(vpn)!;
  frame.bytes.set(source.bytes);
  space.cpu.tlb.drop(vpn);
  space.pages.set(vpn, { kind: 'host', frame, write, dirty });
  source.owner!.release(source);
}
