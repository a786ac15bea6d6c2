// Reads lackey traces with their sidecars and says what is in them:
//
//   node check.mjs [x.trace.gz ...]        (default: the three shipped here)
//
// Exits 1 when a trace misses a floor below. Node 20, no dependencies.
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';
import { fileURLToPath } from 'node:url';

const FLOORS = { accesses: 1_000_000, pages: 500, turns: 3 };
const TOTAL_BYTES_MAX = 4 * 1024 * 1024;
const PAGE_BYTES = 4096;

/** Counts one trace. An access belongs to the instruction line above it. */
async function count(path) {
  const sidecar = JSON.parse(readFileSync(`${path}.json`, 'utf8'));
  if (sidecar.schema !== 1) throw new Error(`${path}.json: schema ${sidecar.schema}, expected 1`);
  const ranges = sidecar.offload.map(({ range }) => range.split('-').map(Number));
  const lines = { I: 0, L: 0, S: 0, M: 0 };
  const pages = new Set();
  const runs = []; // accesses of each maximal run of device accesses
  let textBytes = 0,
    device = false,
    wasDevice = false,
    crossing = 0,
    bytesMax = 0;

  for await (const line of createInterface({ input: createReadStream(path).pipe(createGunzip()) })) {
    textBytes += line.length + 1;
    if (line.startsWith('==')) continue;
    const match = /^(I | [LSM]) ([0-9a-f]+),(\d+)$/.exec(line);
    if (!match) throw new Error(`${path}: not a lackey line: ${JSON.stringify(line)}`);
    const kind = match[1].trim(),
      addr = parseInt(match[2], 16),
      bytes = Number(match[3]);
    lines[kind]++;
    if (kind === 'I') {
      device = ranges.some(([start, end]) => addr >= start && addr < end);
      continue;
    }
    if (device && !wasDevice) runs.push(0);
    if (device) runs[runs.length - 1]++;
    wasDevice = device;
    const vpn = Math.floor(addr / PAGE_BYTES),
      lastVpn = Math.floor((addr + bytes - 1) / PAGE_BYTES);
    pages.add(vpn).add(lastVpn);
    if (lastVpn !== vpn) crossing++;
    if (bytes > bytesMax) bytesMax = bytes;
  }
  const accesses = lines.L + lines.S + lines.M;
  return { lines, accesses, pages: pages.size, turns: runs.length, runs, textBytes, crossing, bytesMax };
}

const here = (name) => fileURLToPath(new URL(`${name}.trace.gz`, import.meta.url));
const given = process.argv.slice(2);
const paths = given.length ? given : ['stencil', 'bfs', 'hashjoin'].map(here);
let missed = 0,
  totalBytes = 0;

for (const path of paths) {
  const trace = await count(path);
  const { lines, runs } = trace;
  const inOrder = [...runs].sort((a, b) => a - b);
  const deviceAccesses = runs.reduce((sum, run) => sum + run, 0);
  totalBytes += statSync(path).size;
  console.log(`${path}
  file bytes       ${statSync(path).size} (${trace.textBytes} of text)
  instructions     ${lines.I}
  loads            ${lines.L}
  stores           ${lines.S}
  modifies         ${lines.M}
  data accesses    ${trace.accesses}
  device share     ${((100 * deviceAccesses) / trace.accesses).toFixed(1)} %
  distinct pages   ${trace.pages}
  turns            ${trace.turns}
  accesses a turn  ${inOrder[0]} least, ${inOrder[inOrder.length >> 1]} median, ${inOrder.at(-1)} most
  page-crossing    ${trace.crossing}
  max access bytes ${trace.bytesMax}`);
  for (const [what, floor] of Object.entries(FLOORS)) {
    if (trace[what] >= floor) continue;
    console.log(`  MISSED: ${what} is ${trace[what]}, the floor is ${floor}`);
    missed++;
  }
}
if (!given.length && totalBytes >= TOTAL_BYTES_MAX) {
  console.log(`MISSED: the traces are ${totalBytes} bytes together, the limit is ${TOTAL_BYTES_MAX}`);
  missed++;
}
process.exitCode = missed ? 1 : 0;
