/** What mutants of drivers meet: the drivers as the contract grades them, with the scenarios of their authors. See scripts/mutate-drivers.mjs. */
import { MiB } from 'farfault';
import dmirror from 'farfault/drivers/dmirror';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import type { AnyFactory } from 'farfault/testing';
import { dmirrorScenario, mirrorScenario, nouveauScenario } from './scenarios.ts';
import { GOOD, type Specimen } from './zoo/good.ts';

/** By the name that scripts/mutate-drivers.mjs knows. */
export const SPECIMENS: Readonly<Record<string, readonly Specimen[]>> = {
  mirror: [
    { factory: mirror as AnyFactory, expectations: { options: { ownTable: true }, exercise: mirrorScenario } },
    {
      factory: mirror as AnyFactory,
      expectations: { options: { ownTable: true, granule: 65536, faultEntries: 4 }, exercise: mirrorScenario },
    },
    { factory: mirror as AnyFactory, expectations: { exercise: mirrorScenario } },
  ],
  nouveau: [
    { factory: nouveau as AnyFactory, expectations: { options: { vram: 1 * MiB }, exercise: nouveauScenario } },
    {
      factory: nouveau as AnyFactory,
      expectations: { options: { vram: 2 * MiB, granule: 65536, faultEntries: 8 }, exercise: nouveauScenario },
    },
  ],
  dmirror: [
    { factory: dmirror as AnyFactory, expectations: { options: { chunkBytes: 2 * MiB }, exercise: dmirrorScenario } },
    { factory: dmirror as AnyFactory, expectations: { options: { chunkBytes: 2 * MiB, kind: 'coherent' }, exercise: dmirrorScenario } },
  ],
  zoo: GOOD.map(([, specimen]) => specimen),
};
