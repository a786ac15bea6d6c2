import { expect, test } from 'vitest';
import { textOf } from './rows/sources.ts';

/** What the patches of GMEM declare and a model has to have a word for, and the notions of drm_gpusvm that took their place. */
// prettier-ignore
const NAMES = [
  'gm_dev_create', 'gm_dev_destroy', 'gm_dev_register_physmem', 'gm_dev_unregister_physmem', 'gm_dev_register_hnode', 'gm_dev_fault', 'gm_dev_switch', 'gm_dev_detach',
  'struct gm_dev', 'GM_DEV_CAP_REPLAYABLE', 'struct hnode', 'struct gm_context', 'gm_as_create', 'gm_as_destroy', 'gm_as_attach', 'gm_as_alloc', 'struct gm_as', 'enum gm_as_alloc',
  'struct gm_region', 'struct gm_mapping_set', 'enum gm_mmu_mode', 'struct gm_mmu', 'pgsize_bitmap', 'cookie', 'pmap_create', 'pmap_enter', 'pmap_release', 'pmap_protect', 'pmap_destroy',
  'tlb_invl', 'tlb_invl_coalesced', 'alloc_page', 'free_page', 'prepare_page', 'peer_hmemcpy', 'struct gm_fault_t', 'enum gm_fault_hint', 'enum gm_ret', 'struct vm_object', 'struct gm_mapping',
  'GM_MAPPING_CPU', 'GM_MAPPING_DEVICE', 'GM_MAPPING_NOMAP', 'GM_MAPPING_DIRTY', 'struct gm_page', 'vm_object_split', 'vm_object_merge', 'dup_vm_object', 'munmap_in_peer_devices', 'hmadvise',
  'gmemstat', 'drm_gpusvm_notifier', 'drm_gpusvm_range', 'drm_pagemap_devmem_ops', 'drm_gpusvm_range_get_pages', 'hmm_range_fault', 'migrate_vma_setup', 'make_device_exclusive',
];

const kernel = textOf('docs/names.md')
  .split('\n')
  .filter((line) => line.startsWith('|'))
  .map((line) => line.split('|')[1]!);

test('every name of GMEM, and each notion of gpusvm and HMM, has a row that says what it is here', () => {
  expect(NAMES.filter((name) => !kernel.some((cell) => cell.includes(`\`${name}\``) || cell.includes(`\`${name}(`)))).toEqual([]);
});
