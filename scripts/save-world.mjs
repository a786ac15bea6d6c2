/** Saves a small machine with the built package, for tests that restore it in another process and in a browser: build/saved.bin, and what it must come to. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = new URL('../', import.meta.url);

export async function saveWorld() {
  const { createMachine, MiB } = await import(new URL('dist/index.js', root));
  const { default: nouveau } = await import(new URL('dist/drivers/nouveau.js', root));
  const machine = await createMachine({ dram: 2 * MiB, deviceMemory: 1 * MiB, tablePages: 128 });
  const space = machine.createAddressSpace();
  const context = space.attach(machine.addDevice(nouveau({ vram: 256 * 1024 })));
  const buffer = space.mmap({ bytes: 96 * 4096 });
  for (let page = 0; page < 96; page++) space.write(buffer.start + page * 4096, Uint8Array.of(page, 255 - page));
  for (let page = 0; page < 96; page += 3) context.write(buffer.start + page * 4096 + 1, Uint8Array.of(page));
  const folder = fileURLToPath(new URL('build/', root));
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}saved.bin`, machine.save({ space, context, buffer }));
  // From here on the restored one must do the same.
  for (let page = 0; page < 96; page += 5) context.write(buffer.start + page * 4096 + 2, Uint8Array.of(7));
  // Before the bytes are read, which counts.
  const counters = JSON.parse(JSON.stringify(machine.counters));
  writeFileSync(`${folder}saved.json`, JSON.stringify({ dump: space.dump(buffer), counters, bytes: [...space.read(buffer.start, 12288)] }));
  machine.close();
}
