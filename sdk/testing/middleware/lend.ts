/**
 * Lists that are lent for one call: the driver gets something that is the list until the call returns, and throws from then on. So a list that was kept is noticed where it is used, and not
 * by what it does to a page later.
 *
 * The host's bytes of an external memory (`copies.eachHost`) are lent as a copy, which is written back and then filled with junk.
 */
import { type Copies, fail, type FarfaultError } from '../../gmem/index.ts';

/** What borrowed bytes are full of when they have been given back. */
export const JUNK_BYTE = 0xdb;

/** Methods that only the owner of a list calls. */
const OWNERS: readonly (string | symbol)[] = ['clear', 'add'];

/** A list that is lent. */
export interface Lent<T> {
  /** What the driver gets. */
  readonly list: T;
  /** The call has returned. */
  end(): void;
}

export interface LendOptions {
  /** The call that it is lent for. */
  readonly operation: string;
  /** What it is, in an error: `mappings`. */
  readonly what: string;
  /** Whether the driver fills it. */
  readonly fills?: boolean;
  /** Told of a breach, before the error is thrown; `changed`: the driver, which only borrows the list, changes it. */
  broken(detail: string): void;
}

/** Lends an object. Fields that are arrays are lent along. */
export function lend<T extends object>(owned: T, options: LendOptions): Lent<T> {
  const { operation, what, fills = false, broken } = options;
  let over = false;
  const breach = (rule: string): FarfaultError => {
    const error = fail('EINVAL', operation, what, rule);
    broken(error.message);
    return error;
  };
  const open = (): void => {
    if (over) throw breach('was lent until its call returned, and is used after that: keep a copy');
  };
  const lentParts = new WeakMap<object, object>();
  const cover = (target: object): object =>
    new Proxy(target, {
      get(of, key) {
        open();
        const value: unknown = Reflect.get(of, key, of);
        if (typeof value === 'function') {
          return (...given: unknown[]): unknown => {
            open();
            if (!fills && OWNERS.includes(key)) throw breach(`is changed by ${String(key)}(): it is borrowed`);
            return (value as (...all: unknown[]) => unknown).apply(Array.isArray(of) ? cover(of) : of, given);
          };
        }
        if (!Array.isArray(value)) return value;
        let part = lentParts.get(value);
        if (!part) lentParts.set(value, (part = cover([...(value as unknown[])])));
        return part;
      },
      set(of, key, value) {
        open();
        if (!fills || Array.isArray(of)) throw breach(`is changed in ${String(key)}: it is borrowed`);
        return Reflect.set(of, key, value, of);
      },
    });
  return {
    list: cover(owned) as T,
    end() {
      over = true;
    },
  };
}

/** A list of copies, lent: the host's bytes are a copy while the call runs. A list that `keep` returns is the driver's, and its bytes are lent for one `eachHost`. */
export function lendCopies(copies: Copies, direction: 'toDevice' | 'toHost' | 'peer' | 'zero', options: LendOptions): Lent<Copies> {
  const views: HostView[] = [];
  const lent = lend(withHostBytes(copies, direction, options, views), options);
  return {
    list: lent.list,
    end() {
      giveBack(views, direction, options);
      lent.end();
    },
  };
}

interface HostView {
  readonly bytes: Uint8Array;
  readonly copy: Uint8Array;
}

/** The list, with copies of the host's bytes. `views`: where they are given back by somebody else; without it at the end of `eachHost`. */
function withHostBytes(
  copies: Copies,
  direction: 'toDevice' | 'toHost' | 'peer' | 'zero',
  options: LendOptions,
  views?: HostView[],
): Copies {
  return new Proxy(copies, {
    get(of, key) {
      if (key === 'eachHost') {
        return (visit: Parameters<Copies['eachHost']>[0]): void => {
          const lent = views ?? [];
          of.eachHost((page, pages, bytes) => {
            const copy = bytes.slice();
            lent.push({ bytes, copy });
            visit(page, pages, copy);
          });
          if (!views) giveBack(lent, direction, options);
        };
      }
      if (key === 'keep') return (pages?: number): Copies => withHostBytes(of.keep(pages), direction, options);
      const value: unknown = Reflect.get(of, key, of);
      return typeof value === 'function' ? (value as (...given: unknown[]) => unknown).bind(of) : value;
    },
  });
}

function giveBack(views: HostView[], direction: 'toDevice' | 'toHost' | 'peer' | 'zero', { broken }: LendOptions): void {
  for (const { bytes, copy } of views.splice(0)) {
    if (direction === 'toHost') bytes.set(copy);
    else if (bytes.some((byte, i) => byte !== copy[i])) broken('the bytes of the host are written, which were to be read');
    copy.fill(JUNK_BYTE);
  }
}
