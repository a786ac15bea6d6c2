/**
 * Functions that can be saved. The state of a step, or of what a step uses, is plain data, and a function is none; but a step may have to hand one out ("call me
 * when the frames are known"). `method(object, 'name')` is that function, and a saved machine writes it as what it is: an object, and the name of one of its methods.
 */
import { fail } from '../errors.ts';

/** A class whose instances may be in a saved machine: all of its state is in fields that can be seen (no `#`). */
export type StateClass = abstract new (...values: never[]) => object;

/** What a function made by `method` stands for. */
export interface BoundMethod {
  readonly object: object;
  readonly name: string;
}

const METHODS = new WeakMap<object, BoundMethod>();

/**
 * `object.name` as a function of its own, with `this` in it: `method<Serve, 'install'>(this, 'install')`. Requires: a public method, not a field that holds a function.
 */
export function method<T extends object, K extends keyof T & string>(object: T, name: K): T[K] {
  if (typeof object !== 'object' || object === null) throw fail('EINVAL', 'method.object', object, 'is not an object');
  if (typeof name !== 'string' || typeof object[name] !== 'function')
    throw fail('EINVAL', 'method.name', name, 'is not the name of a method of it');
  const bound = (object[name] as (...values: unknown[]) => unknown).bind(object);
  METHODS.set(bound, { object, name });
  return bound as T[K];
}

/** What `method` made this function of; undefined for any other function. */
export function boundMethod(value: object): BoundMethod | undefined {
  return METHODS.get(value);
}
