/** Traces for timelines: instructions at 0x1000 to 0x10ff are the device's. */

const cpu = 'I  00002000,4\n';
const device = 'I  00001000,4\n';
const at = (page: number, offset = 0): string => (0x10000 + page * 0x1000 + offset).toString(16).padStart(8, '0');

/** Passes of the device over more pages than a small memory has, with the CPU in between. */
function thrash(passes: number, pages: number): string {
  let text = '';
  for (let pass = 0; pass < passes; pass++) {
    text += device;
    for (let page = 0; page < pages; page++) text += ` M ${at(page)},8\n`;
    text += `${cpu} L ${at(pass % pages)},8\n S ${at((pass * 7) % pages)},8\n`;
  }
  return text;
}

export const HAND_TRACES: Readonly<Record<string, string>> = {
  'there and back': `${cpu} S ${at(0)},8\n L ${at(1)},4\n${device} L ${at(0)},4\n M ${at(1, 0xffe)},4\n S ${at(2)},1\n${cpu} L ${at(0, 4)},4\n S ${at(2)},8\n L ${at(2, 4)},4\n`,
  'the CPU alone': `${cpu} S ${at(0)},8\n L ${at(1)},4\n S ${at(1)},4\n L ${at(40)},4\n${device} L ${at(0)},4\n`,
  thrash: thrash(40, 24),
};
