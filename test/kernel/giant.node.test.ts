/** Case 23 of the kernel's suite where the default huge page is one of 1 GiB. */
import { expect, test } from 'vitest';
import { createMachineSync, GiB, MiB } from 'farfault';
import { addDevices, COHERENT, expectAll, expectClean, PAGE, PRIVATE, Process, PROT } from './harness.ts';

const PAGES = GiB / PAGE;

for (const { name, nodes } of [PRIVATE, COHERENT]) {
  test(`hmm.compound hmm_${name}, pages of 1 GiB`, { timeout: 120_000 }, () => {
    // The one aligned page that fits.
    const machine = createMachineSync({ dram: 2 * GiB, deviceMemory: 64 * MiB });
    const self = new Process(machine, addDevices(machine), machine.createAddressSpace());
    const fd = self.open(nodes[0]);
    const buffer = self.map(PAGES, { hugetlb: GiB });
    self.space.write(buffer.start, Uint8Array.of(1));
    expectAll(fd.snapshot(buffer, PAGES), PROT.WRITE | PROT.PUD);
    buffer.protect('r');
    expectAll(fd.snapshot(buffer, PAGES), PROT.READ | PROT.PUD);
    expect(self.space.read(buffer.start, 2)).toEqual(Uint8Array.of(1, 0));
    buffer.unmap();
    expectClean(machine);
    machine.close();
  });
}
