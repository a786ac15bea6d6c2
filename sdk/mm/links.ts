/**
 * Links: which devices reach each other's memory without the host, and whether a device may use a page in there where it is.
 *
 * ```
 *   no link      a page of one device goes to another by way of the host: home, then out again
 *   link         it goes directly: by the copy engine of one of them (`copy.peer`), else by the core
 *   coherent     and a device may map it where it is: its reads and writes cross the link
 * ```
 *
 * A link goes both ways; two devices have at most one. Models: NVLink and xGMI between devices, `drm_pagemap` with its interconnect tag, peer-to-peer DMA.
 */
import type { NamesOf } from './arguments.ts';
import type { AdvisedDevice } from './attributes.ts';

/** What a link is like. */
export interface LinkOptions {
  /** Whether accesses cross it, not only copies: one device may map a page that is in the other's private memory. Default false. */
  readonly coherent?: boolean;
}

export const LINK_OPTIONS: NamesOf<LinkOptions> = { coherent: true };

/** A link between two devices. Made by `machine.link(a, b)`, ended by `machine.unlink`, or by the end of a device. */
export class Link {
  readonly a: AdvisedDevice;
  readonly b: AdvisedDevice;
  readonly coherent: boolean;
  /** False once it is cut. */
  open = true;

  constructor(a: AdvisedDevice, b: AdvisedDevice, coherent: boolean) {
    this.a = a;
    this.b = b;
    this.coherent = coherent;
  }
}

/** The topology: every link of a machine. */
export class Links {
  /** In the order of their making. */
  readonly list: Link[] = [];

  /** The link between two devices, by their numbers; undefined: they reach each other by way of the host only. */
  between(one: number, other: number): Link | undefined {
    for (const link of this.list) if (endsAt(link, one) && endsAt(link, other)) return link;
    return undefined;
  }

  /** Those of one device. */
  of(owner: number): Link[] {
    return this.list.filter((link) => endsAt(link, owner));
  }

  /** Adds one. Requires: there is none between the two yet. */
  add(link: Link): void {
    this.list.push(link);
  }

  /** Cuts one: nothing new goes over it. */
  cut(link: Link): void {
    link.open = false;
    const at = this.list.indexOf(link);
    if (at >= 0) this.list.splice(at, 1);
  }
}

function endsAt({ a, b }: Link, owner: number): boolean {
  return a.owner === owner || b.owner === owner;
}
