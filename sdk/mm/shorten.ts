/** Takes what is behind the first `count` items off a list that is filled again and again: cut by its `length`, it would give its room back. */
export function shorten(list: unknown[], count: number): void {
  while (list.length > count) list.pop();
}
