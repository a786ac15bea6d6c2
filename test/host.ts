/** Files of examples/workloads, read the way the host at hand reads files. */

/** Bytes of a file there. */
export async function exampleBytes(name: string): Promise<Uint8Array> {
  const url = new URL(`../examples/workloads/${name}`, import.meta.url);
  if (url.protocol === 'file:') {
    const { readFile } = await import(/* @vite-ignore */ 'node:fs/promises');
    return readFile(url);
  }
  return new Uint8Array(await (await fetch(url)).arrayBuffer());
}
