/** Values in error messages: every one fits a line, and none is asked anything that throws. */
import { describe, expect, test } from 'vitest';
import { createMachineSync, FarfaultError, isFarfaultError } from 'farfault';
import { badInputs, type ArgumentSort } from 'farfault/testing';
import { printed } from '../../sdk/errors.ts';
import { makeWorld, PAGE, stateHash } from './world.ts';

class Named {}
class Renamed {}
Object.defineProperty(Renamed, 'name', { value: { not: 'text' } });

describe('a value is shown', () => {
  test.each<[unknown, string]>([
    [undefined, 'undefined'],
    [null, 'null'],
    [true, 'true'],
    [0, '0'],
    [-0, '-0'],
    [4095, '4095'],
    [4096, '0x1000'],
    [-4096, '-4096'],
    [0.5, '0.5'],
    [4096.5, '4096.5'],
    [2 ** 53, '0x20000000000000'],
    [Number.MAX_VALUE, '1.7976931348623157e+308'],
    [NaN, 'NaN'],
    [-Infinity, '-Infinity'],
    ['a "word"', '"a \\"word\\""'],
    ['two\nlines', '"two\\nlines"'],
    ['x'.repeat(100), `"${'x'.repeat(77)}..."`],
    [Symbol('page'), 'Symbol(page)'],
    [Symbol('two\nlines'), 'Symbol(two lines)'],
    [12n, '12n'],
    [10n ** 100n, `1${'0'.repeat(76)}...`],
    [[], 'an array of 0'],
    [new Array(5), 'an array of 5'],
    [{}, 'an object'],
    [Object.create(null), 'an object'],
    [new Named(), 'a Named'],
    [new Renamed(), 'an object'],
    [new Uint8Array(2), 'a Uint8Array'],
    [Named, 'function Named'],
    [Renamed, 'function (anonymous)'],
    [() => {}, 'function (anonymous)'],
  ])('%#: as %s', (value, text) => expect(printed(value)).toBe(text));

  test.each([
    ['range.start', '0x11170'],
    ['munmap.range.end', '0x11170'],
    ['mmap.at', '0x11170'],
    ['gpu fault at', '0x11170'],
    ['write.addr', '0x11170'],
    ['gpu.walk.translate of page', '0x11170'],
    ['dma.read.iova', '0x11170'],
    ['job.accesses', '70000'],
    ['mmap.bytes', '70000'],
    ['nouveau.granule', '70000'],
    ['lanes', '70000'],
    ['expectations.seed', '70000'],
    ['format', '70000'],
  ])('a number of %s: as %s', (argument, text) => {
    expect(printed(70000, argument)).toBe(text);
    expect(new FarfaultError('EINVAL', argument, 70000, 'is not y').message).toBe(`${argument} ${text} is not y`);
  });

  test('whatever it is, in one short line', () => {
    const sorts: ArgumentSort[] = ['address', 'range', 'bytes', 'word', 'options', 'object', 'array', 'function'];
    for (const { name, value } of sorts.flatMap((sort) => badInputs(sort))) {
      const text = printed(value);
      expect(`${name}: ${text}`).toMatch(/^[^\n\r]{1,240}$/);
    }
  });

  test('in the message of an error, which carries it as it is', () => {
    const value = Object.create(null) as object;
    const error = new FarfaultError('EINVAL', 'x', value, 'is not y');
    expect(error.message).toBe('x an object is not y');
    expect(error.value).toBe(value);
    expect(isFarfaultError(error)).toBe(true);
  });

  test.each([undefined, null, 0, '', Symbol('x'), {}, [], () => {}, new Error('other')])('isFarfaultError says no to %s', (value) => {
    expect(isFarfaultError(value)).toBe(false);
  });
});

describe('options with a getter that throws', () => {
  const own = new Error('of the program');
  const throwing = (name: string): object =>
    Object.defineProperty({}, name, {
      enumerable: true,
      get() {
        throw own;
      },
    });

  test('throw that, and nothing has changed', () => {
    const world = makeWorld();
    const { machine, space, context, range, device } = world;
    const before = stateHash(machine);
    const calls: (() => unknown)[] = [
      () => createMachineSync(throwing('dram')),
      () => machine.addDevice(throwing('name') as never),
      () => machine.addDevice(throwing('memory') as never),
      () => machine.createFile(throwing('bytes')),
      () => machine.createFile(throwing('content')),
      () => space.mmap(throwing('bytes') as never),
      () => space.mmap(Object.assign(throwing('prot'), { bytes: PAGE }) as never),
      () => space.munmap(throwing('start') as never),
      () => space.mremap(range, throwing('bytes')),
      () => space.fork(throwing('device')),
      () => space.pin(range, throwing('write')),
      () => space.subscribe(range, throwing('invalidate') as never),
      () => context.submit(throwing('accesses') as never),
      () => context.migrate(range, throwing('to') as never),
      () => context.atomic(range.start, throwing('op') as never),
      () => device.addMemory(throwing('name') as never),
    ];
    for (const call of calls) {
      expect(call).toThrow(own);
      expect(stateHash(machine)).toBe(before);
    }
    expect(machine.verify()).toBe(undefined);
    machine.close();
  });
});
