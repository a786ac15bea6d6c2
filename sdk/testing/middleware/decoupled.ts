/**
 * `decoupled(driver)`: the driver without its family `peer`, so that pages come and go in the steps of its other families. What one form leaves in memory, the other one must.
 *
 * ```ts
 * const inOneGo = machine.addDevice(card());
 * const inSteps = machine.addDevice({ ...decoupled(card()), name: 'steps' });
 * ```
 */
import { type Driver } from '../../gmem/index.ts';
import { wrapDriver } from './wrap.ts';

/**
 * The driver, of which nobody sees that it brings and takes pages by itself. Memory whose pages it hands out for that (`allocator: 'peer'`) is handed out by the core. A driver without the family stays as it is.
 * Requires: it has the decoupled operations as well.
 */
export function decoupled<D extends Driver>(driver: D): D {
  const hidden = wrapDriver(driver, {
    attach(_context, attach) {
      const mmu = attach();
      if (typeof mmu !== 'object' || mmu === null) return mmu;
      const { peer: _peer, ...families } = mmu;
      return families;
    },
  });
  const { memory } = driver;
  return memory ? { ...hidden, memory: memory.map((each) => (each.allocator === 'peer' ? { ...each, allocator: 'core' } : each)) } : hidden;
}
