/** Broken fault services. */
import { type BatchFault, type DeviceFaultRecord, FaultBatch, type Step, DONE } from 'farfault/gmem';
import { card, Service } from '../good.ts';
import type { Broken } from './case.ts';

export const FAULTS: readonly Broken[] = [
  {
    name: 'drops the second half of a batch',
    how: 'fault.service serves the lower half of its pages, and says nothing of the others.',
    by: 'every access of a job is executed once',
    driver: card({
      Service: class extends Service {
        override arrange(records: readonly DeviceFaultRecord[]): BatchFault[] {
          const faults = super.arrange(records);
          return faults.slice(0, Math.floor(faults.length / 2));
        }
      },
    }),
  },
  {
    name: 'serves nothing',
    how: 'fault.service returns a step that is done at once.',
    by: 'faults are served one by one as well',
    driver: card({
      Service: class extends Service {
        override service(): Step {
          return { name: 'serve nothing', next: () => DONE };
        }
      },
    }),
  },
  {
    name: 'merges a read and a write into a read',
    how: 'Merged faults have the access of the first.',
    by: 'merged records keep what each of them asks for',
    driver: card({
      Service: class extends Service {
        override merge(a: BatchFault, b: BatchFault): BatchFault {
          return { ...super.merge(a, b), write: a.write && b.write };
        }
      },
    }),
  },
  {
    name: 'refuses a reader with a writer',
    how: 'Merged faults forget that one of them only reads.',
    by: 'merged records keep what each of them asks for',
    driver: card({
      Service: class extends Service {
        override merge(a: BatchFault, b: BatchFault): BatchFault {
          return { ...super.merge(a, b), reads: false };
        }
      },
    }),
  },
  {
    name: 'serves only reads',
    how: 'fault.service brings pages for reading, whatever was asked.',
    by: 'a right that was given is used',
    driver: card({
      Service: class extends Service {
        override arrange(records: readonly DeviceFaultRecord[]): BatchFault[] {
          return super.arrange(records).map((fault) => ({ ...fault, write: false, reads: true }));
        }
      },
    }),
  },
  {
    name: 'stops at the first duplicate',
    how: 'Records that come after a page was named twice are ignored for good.',
    by: 'faults in several mappings are served in one job',
    driver: card({
      Service: class extends Service {
        private readonly known = new Set<number>();
        override arrange(records: readonly DeviceFaultRecord[]): BatchFault[] {
          const fresh = records.findIndex(({ vpn }) => this.known.size === this.known.add(vpn).size);
          return super.arrange(fresh < 0 ? records : records.slice(0, fresh));
        }
      },
    }),
  },
  {
    name: 'loses a cancel',
    how: 'fault.service works on a copy of the batch, and never tells the batch what it has given up.',
    by: 'accesses to what is not mapped are cancelled, and no others',
    driver: card({
      Service: class extends Service {
        override service(batch: FaultBatch): Step {
          const copy = new FaultBatch(batch.records, batch.overflow);
          const step = super.service(copy);
          return step;
        }
      },
    }),
  },
  {
    name: 'gives everything up',
    how: 'A batch with more pages than a granule is cancelled as not mapped.',
    by: 'a batch of distinct pages is served whole',
    driver: card({
      Service: class extends Service {
        override service(batch: FaultBatch): Step {
          const faults = this.arrange(batch.records);
          for (const { vpn } of faults.slice(4)) batch.cancel(vpn, false, 'no mapping');
          return this.step.of(batch, faults.slice(0, 4));
        }
      },
    }),
  },
  {
    name: 'cannot bear an overflow',
    how: 'fault.service throws when records found no room.',
    by: 'more faults than the fault buffer holds are all served',
    driver: card({
      Service: class extends Service {
        override service(batch: FaultBatch): Step {
          if (batch.overflow > 0) throw new Error('the buffer ran over');
          return super.service(batch);
        }
      },
    }),
  },
  {
    name: 'serves the batch before',
    how: 'fault.service hands in the faults that it was given the time before.',
    by: 'every access of a job is executed once',
    driver: card({
      Service: class extends Service {
        private before: readonly DeviceFaultRecord[] = [];
        override arrange(records: readonly DeviceFaultRecord[]): BatchFault[] {
          const { before } = this;
          this.before = records;
          return super.arrange(before);
        }
      },
    }),
  },
  {
    name: 'names the page before',
    how: 'The last fault of a batch is served one page too low.',
    by: 'every access of a job is executed once',
    driver: card({
      Service: class extends Service {
        override arrange(records: readonly DeviceFaultRecord[]): BatchFault[] {
          const faults = super.arrange(records);
          const last = faults.pop()!;
          return [...faults, { ...last, vpn: last.vpn - 1 }];
        }
      },
    }),
  },
];
