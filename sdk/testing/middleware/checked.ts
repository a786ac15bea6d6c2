/**
 * `checked(driver, checks)`: the calling rules (see `checks.ts`), both sides of them. What the driver is given is lent (see
 * `lend.ts`); what it answers, and what the framework asks of it, is compared with what went before.
 *
 * ```ts
 * const checks = new Checks();
 * const gpu = machine.addDevice(checked(myDriver(), checks));
 * ...
 * checks.finish();
 * console.log(checks.text());       // nothing, or a line for each rule that was broken
 * ```
 *
 * A driver that installs translations by itself (`context.hmm`, from a command) is known by what it answers only: that is compared with the CPU's table. Of the ready-made table
 * and TLB nothing is seen: the core calls them; who translates by himself in front of that table is held to what it has. With `faulty` around `checked`, calls that are late or half done look like the framework's: put `checked` around `faulty`. A machine that is
 * saved while a fault service runs cannot be restored under `checked`.
 */
import { type Driver, fail } from '../../gmem/index.ts';
import { requireObject } from '../../mm/arguments.ts';
import { CheckedDevice } from './checked-device.ts';
import { Checks, requireNothing } from './checks.ts';
import { withOperations, wrapDriver } from './wrap.ts';

/** The driver, with its calls checked. What is found is in `checks`; without it the first violation is thrown. */
export function checked<D extends Driver>(driver: D, checks: Checks = new Checks({ throw: true })): D {
  requireObject('driver', driver, 'a driver (an object made by a defineDriver factory)');
  if (!(checks instanceof Checks)) throw fail('EINVAL', 'checked.checks', checks, 'is not a Checks');
  const device = new CheckedDevice(driver, checks);
  return wrapDriver(driver, {
    attach: (context, attach) => device.attach(context, attach),
    pmap: (pmap, context) => {
      const at = device.of(context);
      return withOperations(pmap, {
        create: () => requireNothing(checks, 'pmap.create', at.run('pmap.create', () => pmap.create!()) as unknown),
        enter: (mappings) => at.enter(mappings, (lent) => pmap.enter(lent)),
        release: (ranges) => at.release(ranges, (lent) => pmap.release(lent)),
        protect: (ranges, write) => at.protect(ranges, write, (lent) => pmap.protect!(lent, write)),
        destroy: () => at.destroy(() => pmap.destroy!()),
      });
    },
    tlb: (tlb, context) => {
      const at = device.of(context);
      at.hasCaches = true;
      return withOperations(tlb, {
        invalidate: (ranges) => at.invalidate('tlb.invalidate', ranges, (lent) => tlb.invalidate(lent)),
        invalidateCoalesced: (ranges) => at.invalidate('tlb.invalidateCoalesced', ranges, (lent) => tlb.invalidateCoalesced!(lent)),
      });
    },
    walk: (walk, context) => {
      const at = device.of(context);
      at.translates = true;
      return withOperations(walk, {
        translate: (vpn, access) => at.translate(vpn, access, () => walk.translate(vpn, access)),
        harvest: (ranges, marks) => at.harvest(ranges, marks, (lent, lentMarks) => walk.harvest!(lent, lentMarks)),
      });
    },
    copy: (copy, context) => {
      const at = device.of(context);
      return withOperations(copy, {
        toDevice: (copies) => at.copy('toDevice', copies, (lent) => copy.toDevice!(lent)),
        toHost: (copies) => at.copy('toHost', copies, (lent) => copy.toHost!(lent)),
        peer: (copies) => at.copy('peer', copies, (lent) => copy.peer!(lent)),
        zero: (copies) => at.copy('zero', copies, (lent) => copy.zero!(lent)),
      });
    },
    phys: (phys) =>
      withOperations(phys, {
        allocPage: () => device.allocPage(() => phys.allocPage()),
        freePage: (page) => device.freePage(page, () => phys.freePage(page)),
        preparePage: (copies) => device.prepare(copies, (lent) => phys.preparePage!(lent)),
        victims: (spared) => device.victims(spared, () => phys.victims!(spared)),
      }),
    peer: (peer, context) => {
      const at = device.of(context);
      return withOperations(peer, {
        map: (batch) => at.batches.bring(batch, () => peer.map(batch)),
        unmap: (batch) => at.batches.take(batch, () => peer.unmap(batch)),
        importPages: (count) => device.importPages(count, () => at.run('peer.importPages', () => peer.importPages!(count))),
        freePage: (page, pages) => device.freePeerPage(page, pages, () => at.alone('peer.freePage', () => peer.freePage!(page, pages))),
      });
    },
    fault: (fault, context) => {
      const at = device.of(context);
      return withOperations(fault, { service: (batch) => at.service(batch, (lent) => fault.service(lent)) });
    },
    peerVa: (peerVa, context) => {
      const at = device.of(context);
      return withOperations(peerVa, {
        allocFixed: (start, bytes, prot) => at.addresses.allocFixed(start, bytes, prot, () => peerVa.allocFixed(start, bytes, prot)),
        free: (start, bytes) => at.addresses.free(start, bytes, () => peerVa.free(start, bytes)),
      });
    },
    command: (command, context) => {
      const at = device.of(context);
      at.entersItself = true;
      return (request) => at.stepOf('command', () => command(request));
    },
    detach: (detach, context) => () => device.of(context).detach(() => detach?.()),
  });
}
