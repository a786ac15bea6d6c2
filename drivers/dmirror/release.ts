/**
 * RELEASE: every chunk of device memory is evicted, whoever maps it, and unplugged. The next allocation makes a new one. A chunk with a page that somebody holds stays, and the command ends with EBUSY.
 *
 * Models: `dmirror_device_remove_chunks`.
 */
import { DONE, type OwnMemory, type Progress, type Run, type Unplug } from '../../sdk/gmem/index.ts';
import { Operation } from './command.ts';
import { errno } from './errno.ts';

export class Release extends Operation {
  private readonly left: OwnMemory[] = [...this.mirror.context.device.memories];
  private unplug: Unplug | undefined;

  protected turn(run: Run): Progress {
    const { device } = this.mirror.context;
    for (;;) {
      if (!this.unplug) {
        const memory = this.left.shift();
        if (!memory) return this.succeed(0);
        // The RELEASE of another mirror may have been quicker.
        if (!device.memories.includes(memory)) continue;
        this.unplug = device.removeMemoryStep(memory);
      }
      try {
        // Its turns are this step's turns, not a call: a chunk that cannot go is an answer here, and no error.
        const progress = this.unplug.next(run);
        if (progress !== DONE) return progress;
      } catch (error) {
        this.unplug.abort(run);
        return this.fail(errno(error));
      }
      this.unplug = undefined;
    }
  }

  override abort(run: Run): void {
    this.unplug?.abort(run);
    super.abort(run);
  }
}
