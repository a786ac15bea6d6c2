/** The core's self-check in words. */
import * as L from '../../assembly/layout.ts';
import type { Core } from './abi.ts';

const RULES: Readonly<Record<number, (a: number, b: number, c: number) => string>> = {
  1: (node, counted, recorded) =>
    `node ${node} has ${counted} frames in use but records ${recorded}, or its used and free frames are not all it has`,
  2: (node, counted, recorded) => `node ${node} has free blocks of ${counted} frames but records ${recorded}`,
  3: (frame, references, held) => `frame ${frame} has ${references} references, of which mappings and pins hold ${held}`,
  4: (frame, counted, recorded) => `frame ${frame} has a reverse map of ${counted} entries but records ${recorded} mappings`,
  5: (frame, page, table) =>
    `frame ${frame} has a reverse map to page 0x${page.toString(16)} of table ${table}, whose entry does not name it`,
  6: (frame) => `frame ${frame} is locked though no operation is in flight`,
  7: (page, frame, table) => `page 0x${page.toString(16)} of table ${table} names frame ${frame}, which is not in use`,
  8: (page, frame, table) => `page 0x${page.toString(16)} of table ${table} names frame ${frame}, which has no reverse map to it`,
  9: (page, counted, recorded) => `the table page at 0x${page.toString(16)} has ${counted} live entries but records ${recorded}`,
  10: (table, counted, recorded) => `table ${table} has ${counted} mapped pages or table pages but records ${recorded}`,
  11: (page, device, home) =>
    `a device maps page 0x${page.toString(16)} to frame ${device}, the home table to ${home === 2 ** 32 - 1 ? 'nothing' : home}`,
  12: (page, frame) => `a device may write page 0x${page.toString(16)} (frame ${frame}), which the home table does not allow`,
  13: (page, cached, table) =>
    `a TLB translates page 0x${page.toString(16)} to frame ${cached}, its table to ${table}, or with fewer rights`,
  14: (page, frame, table) =>
    `page 0x${page.toString(16)} of table ${table} is a migration entry (frame ${frame}) though no operation is in flight`,
  15: (counted, recorded) => `the tables use ${counted} table pages but ${recorded} are recorded`,
  16: (page, frame, table) => `page 0x${page.toString(16)} of table ${table} and its frame ${frame} are not of one size`,
  17: (counted, recorded) => `huge entries have deposited ${counted} table pages but ${recorded} are recorded`,
  18: (counted, recorded) => `shared huge frames need ${counted} reverse-map records but ${recorded} are set aside`,
  19: (page, frame, table) =>
    `page 0x${page.toString(16)} of table ${table} is its space's own, but frame ${frame} is mapped elsewhere as well`,
  20: (page, frame, table) => `page 0x${page.toString(16)} of table ${table} is writable, but frame ${frame} is not its space's own`,
  21: (frame, original, at) =>
    at === 2 ** 32 - 1
      ? `frame ${frame} is a copy of frame ${original}, which is not in use`
      : `frame ${frame} is a copy of frame ${original}, which differs from it at byte ${at}`,
  22: (page, frame, table) =>
    `page 0x${page.toString(16)} of table ${table} and its frame ${frame} disagree whether it is on the second tier`,
  23: (frame, backing) => `frame ${frame} has frame ${backing} as its backing, which is not kept for it in the second tier`,
};

/** The first broken rule as a sentence, or undefined. `idle`: no operation is in flight, so nothing may be locked or half-moved. */
export function verifyCore(core: Core, idle: boolean): string | undefined {
  const rule = core.exports.verify(idle ? 1 : 0);
  if (rule === 0) return undefined;
  return RULES[rule]!(core.header(L.H_VERIFY_A), core.header(L.H_VERIFY_B), core.header(L.H_VERIFY_C));
}
