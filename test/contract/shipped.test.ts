/** Every shipped driver keeps the contract. */
import { describe, expect, test } from 'vitest';
import { MiB } from 'farfault';
import dmirror from 'farfault/drivers/dmirror';
import integrated from 'farfault/drivers/integrated';
import kvm from 'farfault/drivers/kvm';
import iommu from 'farfault/drivers/iommu';
import mirror from 'farfault/drivers/mirror';
import nouveau from 'farfault/drivers/nouveau';
import rdma from 'farfault/drivers/rdma';
import npu from 'farfault/drivers/npu';
import { type AnyFactory, type Expectations, gradeDriver, printReport } from 'farfault/testing';

const SHIPPED: readonly (readonly [string, AnyFactory, Expectations])[] = [
  ['mirror', mirror as AnyFactory, {}],
  ['mirror with a table of its own', mirror as AnyFactory, { options: { ownTable: true } }],
  ['mirror with a granule of 64 KiB', mirror as AnyFactory, { options: { ownTable: true, granule: 65536, faultEntries: 4 } }],
  ['integrated', integrated as AnyFactory, {}],
  ['kvm', kvm as AnyFactory, {}],
  ['kvm that withholds the right to write', kvm as AnyFactory, { options: { dirtyLog: 'write protect' } }],
  ['rdma', rdma as AnyFactory, {}],
  ['iommu, with the addresses of the process', iommu as AnyFactory, {}],
  ['nouveau', nouveau as AnyFactory, { options: { vram: 1 * MiB } }],
  ['nouveau with a granule of 64 KiB', nouveau as AnyFactory, { options: { vram: 2 * MiB, granule: 65536, faultEntries: 8 } }],
  ['npu', npu as AnyFactory, { options: { vram: 2 * MiB, granule: 4096 } }],
  ['npu with a granule of 64 KiB', npu as AnyFactory, { options: { vram: 2 * MiB, granule: 65536 } }],
  ['dmirror, private', dmirror as AnyFactory, { options: { chunkBytes: 2 * MiB } }],
  ['dmirror, coherent', dmirror as AnyFactory, { options: { chunkBytes: 2 * MiB, kind: 'coherent' } }],
];

describe('every shipped driver keeps the contract', () => {
  for (const [name, factory, expectations] of SHIPPED) {
    test(name, async () => {
      const report = await gradeDriver(factory, expectations);
      expect(report.failed, printReport(report)).toBe(0);
      expect(report.passed).toBeGreaterThan(0);
    });
  }
});
