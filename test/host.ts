/** Files of the repository, read the way the host at hand reads files. */

async function bytesAt(url: URL): Promise<Uint8Array> {
  if (url.protocol === 'file:') {
    const { readFile } = await import(/* @vite-ignore */ 'node:fs/promises');
    return readFile(url);
  }
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url.href}: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** Bytes of a file in examples/workloads. */
export async function exampleBytes(name: string): Promise<Uint8Array> {
  return bytesAt(new URL(`../examples/workloads/${name}`, import.meta.url));
}

/** Bytes of a file in build, which `npm test` has made. */
export async function buildBytes(name: string): Promise<Uint8Array> {
  return bytesAt(new URL(/* @vite-ignore */ `../build/${name}`, import.meta.url));
}
