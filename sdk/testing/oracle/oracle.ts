/**
 * The oracle: every verb of the machine said a second time, in the plainest way. It decides by the promises, entries and pages of `state.ts`; memory never runs out here.
 *
 * Results are words: `ok`, `ok <value>`, or the code of the error. The one thing that it is told is whether a device has a translation of a page: which of them a device keeps
 * is nobody's promise, and whether those that it keeps are true is checked elsewhere.
 */
export { deviceAtomic } from './atomics.ts';
export { deviceAccess, makeExclusive } from './device-faults.ts';
export { addMemory, attach, detach, removeMemory } from './devices.ts';
export { access } from './faults.ts';
export { closeFile, fileRead, fileWrite, msync, syncFile, truncateFile } from './files.ts';
export { insertPage, insertPfn, madvise, mmap, mprotect, munmap } from './mappings.ts';
export { migrate } from './migrations.ts';
export { isPrivate } from './pages.ts';
export { pinAccess, pinPages, unpin } from './pins.ts';
export { mremap } from './remap.ts';
export { closeSpace, createSpace, fork } from './spaces.ts';
export { HOST, SKIP, type World } from './state.ts';
export { addDevice, addFile, createWorld, usage } from './world.ts';
