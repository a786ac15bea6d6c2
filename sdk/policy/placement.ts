/**
 * What a device does about a page that it wants and that could come to it: a pure choice. The fault table (`sdk/gmem/fault-table.ts`) says when it is asked, and which answers it may give.
 *
 * ```
 *   the page is      and                                                        read         write
 *   anywhere         it is mostly read, or the device duplicates all            duplicate    migrate
 *                    that it reads (`duplicate: 'reads'`)
 *   on the host,     that is its place, or this device is to use it where       remote       remote
 *   or on a device   it is (accessedBy), and the place is not this device
 *   nowhere          its place is the host                                      remote       remote
 *   anywhere         else                                                       migrate      migrate
 * ```
 *
 * Models: the choice that the hint `GM_FAULT_HINT_MARK_HOT` was to be one of, `uvm_va_block_select_residency`.
 */
import { fail } from '../errors.ts';

/**
 * `migrate`: the page comes to the device, which is its one owner then. `duplicate`: the device gets a copy, which it may only read. `remote`: the device uses the page where it is, if it
 * reaches it there. `stay`: the page does not move, whatever comes: the device uses it where it is (what has no bytes yet appears on the host), and where it does not reach it, the access fails (EOPNOTSUPP).
 */
export type Placement = 'migrate' | 'duplicate' | 'remote' | 'stay';

/** All of them. */
export const PLACEMENTS: readonly Placement[] = ['migrate', 'duplicate', 'remote', 'stay'];

/** `PlacementQuestion.at`: no bytes yet. */
export const AT_NOWHERE: number = -1;

/** `PlacementQuestion.at`: on the host. Devices are named by their number, 1 and up. */
export const AT_HOST = 0;

/** What is advised of a page, as far as its place goes: `PageAttributes` of `space.attributes` is one. */
export interface PlacementAdvice {
  /** Number of a device, AT_HOST, or AT_NOWHERE: nobody has said. */
  readonly preferred: number;
  readonly accessedBy: readonly number[];
  readonly readMostly: boolean;
}

/** What is to be decided. Lent: the object is used again. */
export interface PlacementQuestion {
  /** Number of the device that asks. */
  readonly device: number;
  /** Page number. */
  readonly vpn: number;
  readonly write: boolean;
  /** Where the page is: AT_NOWHERE, AT_HOST, or the number of another device. */
  readonly at: number;
  /** Whether the device could use it where it is, or would be if it appeared on the host. */
  readonly isReachable: boolean;
  /** Whether it can be duplicated at all: its bytes are somewhere, the access reads, and the device has memory. */
  readonly mayDuplicate: boolean;
  readonly advice: PlacementAdvice | undefined;
}

/** Choices of a device about the places of pages. */
export interface PlacementPolicy {
  /** Which pages it duplicates when it reads them: those that are advised to be mostly read (default), all that it reads, or none. */
  readonly duplicate?: 'advised' | 'reads' | 'never';
  /**
   * Decides in place of the table above. Must not call the machine. An answer that cannot be had (`duplicate` of a page that may not be, `remote` of one that is out of reach) counts as `migrate`. An instance of a class that
   * has it is part of the machine's state: give its class to `machine.save`.
   */
  choose?(question: PlacementQuestion): Placement;
}

/** Throws EINVAL for what is no placement policy. */
export function checkPlacement(argument: string, value: unknown): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fail('EINVAL', argument, value, 'is not an object');
  const { duplicate, choose, ...rest } = value as PlacementPolicy;
  if (duplicate !== undefined && !['advised', 'reads', 'never'].includes(duplicate))
    throw fail('EINVAL', `${argument}.duplicate`, duplicate, "is not one of: 'advised', 'reads', 'never'");
  if (choose !== undefined && typeof choose !== 'function') throw fail('EINVAL', `${argument}.choose`, choose, 'is not a function');
  const [unknown] = choose === undefined ? Object.keys(rest) : [];
  if (unknown !== undefined) throw fail('EINVAL', argument, unknown, 'is no choice about places');
}

/** The answer that `policy` gives, or the one of the table. Throws EINVAL for an answer of `policy.choose` that is none. */
export function placementOf(question: PlacementQuestion, policy: PlacementPolicy | undefined): Placement {
  const answer = policy?.choose === undefined ? choiceOf(question, policy?.duplicate ?? 'advised') : policy.choose(question);
  switch (answer) {
    case 'duplicate':
      return question.mayDuplicate ? answer : 'migrate';
    case 'remote':
      return question.isReachable ? answer : 'migrate';
    case 'migrate':
    case 'stay':
      return answer;
    default:
      throw fail('EINVAL', 'placement.choose result', answer, `is not one of: ${PLACEMENTS.join(', ')}`);
  }
}

function choiceOf({ device, at, advice, mayDuplicate }: PlacementQuestion, duplicate: 'advised' | 'reads' | 'never'): Placement {
  if (mayDuplicate && (duplicate === 'reads' || (duplicate === 'advised' && advice?.readMostly === true))) return 'duplicate';
  if (advice === undefined || advice.preferred === device) return 'migrate';
  if (at === AT_NOWHERE) return advice.preferred === AT_HOST ? 'remote' : 'migrate';
  return advice.preferred === at || advice.accessedBy.includes(device) ? 'remote' : 'migrate';
}
